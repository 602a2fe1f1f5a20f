"""Selection of the loader: by name, or the one that suits the data set and the device."""

import numpy as np
import psutil
import torch

from distdl.core import factories
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.data.dataset import DataSet, EncodedSplit, Split
from distdl.data.loaders.base import Loader
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World

RESIDENT_SHARE = 0.25
"""Share of the device's free memory that a data set may take for `auto` to select loader resident."""


def make_loader(config: Config, dataset: DataSet, split: Split, world: World, *, training: bool) -> Loader:
    """Build the loader that `config.data.loader` names; for `auto`, the one that suits best.

    Raises:
        UserError: the loader cannot read this data set, its package is missing, or there are too few samples.
    """
    spec = LoaderSpec(config=config, dataset=dataset, split=split, world=world, training=training)
    _check(spec)
    name, reason = config.data.loader, "data.loader asks for it"
    if name == "auto":
        name, reason = choose(spec)
    return factories.make("loaders", name, spec, reason, options=config.options.get("loader"))


def choose(spec: LoaderSpec) -> tuple[str, str]:
    """Return the name of the loader that suits the samples and the device, and the reason."""
    split, device = spec.split, spec.world.device
    if spec.dataset.name == "synthetic":
        return "synthetic", "the set is synthetic"
    if isinstance(split, EncodedSplit):
        return "torch", f"{len(split):,} images are files, decoded by worker processes"
    margin = spec.config.data.augment.crop * 2 if spec.training else 0
    copies = 2 if spec.config.data.augment.flip and spec.training else 1
    n, height, width, channels = split.images.shape
    size = n * (height + margin) * (width + margin) * channels * copies
    # Every rank of the host holds a copy: on its own GPU, or on CPUs in the memory of the host.
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _available() / spec.world.local_size
    reason = f"{n:,} images take {size / 2**20:,.0f} MiB of {free / 2**30:,.1f} GiB free"
    return ("resident" if size <= RESIDENT_SHARE * free else "torch"), reason


def _available() -> int:
    return psutil.virtual_memory().available


def _check(spec: LoaderSpec) -> None:
    """Refuse data that no loader can deliver correctly.

    Raises:
        UserError: there are too few samples, or a label is out of range.
    """
    n, world, labels = len(spec.split), spec.world, spec.split.labels
    subject = f"data set {spec.dataset.name}"
    if not n:
        raise UserError(f"{subject}: there are no samples to {'train' if spec.training else 'evaluate'} on")
    if spec.training and n < world.size:
        raise UserError(f"{subject} has {n} samples for {world.size} ranks: start at most {n} ranks")
    batch, pieces = spec.global_batch, spec.pieces
    if batch < pieces:
        micro = f" x {pieces // world.size} micro-batches" if pieces > world.size else ""
        raise UserError(
            f"data.global_batch {batch} is too small for {world.size} ranks{micro}: make it at least "
            f"{pieces}, or start fewer ranks"
        )
    if spec.training and not len(spec):
        raise UserError(f"data.drop_last leaves nothing: {n} samples do not fill a global batch of {batch}")
    classes = len(spec.dataset.classes)
    first = labels.reshape(n, -1).max(1)  # of several labels per image, -1 is none
    wrong = np.flatnonzero((first < 0) | (first >= classes))
    if len(wrong):
        raise UserError(
            f"{subject}: label {first[wrong[0]]} of sample {wrong[0]} is out of range, there are {classes} classes"
        )

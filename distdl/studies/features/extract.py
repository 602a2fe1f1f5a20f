"""A frozen network as a feature extractor: features are computed once per image, and last layers are trained on them.

A frozen part has the same output in every epoch and at every learning rate. Its features are therefore stored, and a
grid of learning rates and seeds is trained on them.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distdl.core.config import Config
from distdl.core.errors import UserError, reading
from distdl.core.files import write_atomic
from distdl.core.profiles import Recipe, resolve
from distdl.core.regular import require_regular
from distdl.data.dataset import DataSet, Split
from distdl.data.loaders import make_loader
from distdl.data.sets.load import load
from distdl.models import blocks as parts
from distdl.runtime.device import device_for
from distdl.runtime.world import World
from distdl.studies.features.last_layers import Features, head_tensors, network, train

FILE, LAYERS = "features.safetensors", "layers.safetensors"
SAME = 1e-4
"""Largest difference, relative to the largest logit, between the logits of stored features and of the network."""


def grid(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Run a trial: compute the features of the recipe's network and data set, and train the grid of last layers.

    Args:
        folder: the trial's folder, in which features and layers are stored.
        table: the result of `features.grid.grid_table`.
    Returns:
        The result of each last layer (`heads`), counts, and the seconds of both parts.
    """
    config = resolve(Recipe(**table["recipe"]), strategy="single")
    world = World(device=device_for(config.compute, local_rank=0, local_size=1))
    dataset = load(config.data, config.options.get("dataset"))
    file = folder / FILE
    began = time.perf_counter()
    if not file.exists():
        write(file, compute(config, dataset, world))
    stored = read(file, world.device)
    features_end = time.perf_counter()
    heads, layers = train(stored, config, dataset, table["rates"], range(int(table["seeds"])))
    _write_tensors(folder / LAYERS, {"weight": layers.weight, "bias": layers.bias})
    width = stored["train"][0].shape[1]
    return {
        "heads": [dataclasses.asdict(head) for head in heads],
        "images": sum(len(labels) for _, labels in stored.values()),
        "dimensions": width,
        "parameters": (width + 1) * len(dataset.classes),
        "features_s": features_end - began,
        "heads_s": time.perf_counter() - features_end,
    }


@torch.no_grad()
def compute(config: Config, dataset: DataSet, world: World) -> Features:
    """Compute the inputs of the network's last layer for each image, in evaluation mode and without augmentation.

    Raises:
        UserError: if the network has no weights, or operations after its last layer other than averaging over pixels.
    """
    if config.model.weights == "none":
        raise UserError("a feature extractor needs pretrained weights: set model.weights")
    model = network(config, dataset).to(world.device).eval()
    head = model.get_submodule(parts.head(model))
    weight, bias = head_tensors(model)
    head_inputs: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: head_inputs.append(inputs[0]))
    stored: dict[str, tuple[Tensor, Tensor]] = {}
    plain = dataclasses.replace(config, data=dataclasses.replace(config.data, ten_crop=False))
    for name in ("train", "validation", "test"):
        split: Split | None = getattr(dataset, name)
        if split is None:
            continue
        if split.labels.ndim > 1:
            raise UserError("stored features need one label per image, but data.labels has several")
        loader = make_loader(plain, dataset, split, world, training=False)
        features, labels = [], []
        for batch in loader.epoch(0):
            logits = model(batch.images)
            pooled = _pooled(head_inputs.pop())
            if not labels:
                _check(F.linear(pooled, weight, bias), logits, config.model.name)
            features.append(pooled[: batch.count])
            labels.append(batch.labels[: batch.count])
        loader.close()
        stored[name] = torch.cat(features), torch.cat(labels)
    hook.remove()
    return stored


def _pooled(head_inputs: Tensor) -> Tensor:
    # A 1 x 1 convolution averaged over pixels is the convolution of the average.
    return head_inputs.mean(dim=(2, 3)) if head_inputs.dim() == 4 else head_inputs


def _check(computed: Tensor, logits: Tensor, name: str) -> None:
    if computed.shape != logits.shape or (computed - logits).abs().max() > SAME * logits.abs().max():
        raise UserError(
            f"{name} has operations after its last layer other than averaging: use model.train_only instead"
        )


def write(file: Path, stored: Features) -> None:
    """Write features as safetensors: SPLIT.features and SPLIT.labels."""
    tensors = {f"{name}.features": features for name, (features, _) in stored.items()}
    _write_tensors(file, tensors | {f"{name}.labels": labels for name, (_, labels) in stored.items()})


def _write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    write_atomic(file, lambda sink: sink.write(content))


def read(file: Path, device: torch.device) -> Features:
    """Read features that `write` wrote.

    Raises:
        UserError: the file is damaged, or has other tensors.
    """
    from safetensors.torch import load_file

    with reading(file, "features"):
        require_regular(file)
        tensors = load_file(file, device=str(device))
        names = [name.removesuffix(".labels") for name in tensors if name.endswith(".labels")]
        return {name: (tensors[f"{name}.features"], tensors[f"{name}.labels"]) for name in names}

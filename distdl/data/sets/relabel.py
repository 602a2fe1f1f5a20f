"""Label files: which samples to train on, and with which labels instead of those of the data set.

A label file is a .npz file with
    indices [m]            indices in the list of training samples; an index may occur several times
    labels [m] or [m, k]   the label of each, or k labels with equal weight; -1 means no label
    classes [c]            optional class names: those of the data set first, then additional ones
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.data.dataset import Raw
from distdl.data.storage.npz import read_arrays
from distdl.data.storage.set_file import is_class_name

LARGEST_BYTES = 2**30
"""Maximum unpacked size of a label file: 64 million indices with a label each."""


def write(file: Path, indices: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] = ()) -> None:
    """Write a label file atomically.

    Args:
        indices: [m] integers.
        labels: [m] or [m, k] integers.
    """
    arrays: dict[str, Any] = {"indices": indices, "labels": labels} | (
        {"classes": np.array(classes)} if classes else {}
    )
    write_atomic(file, lambda sink: np.savez_compressed(sink, **arrays))


def apply(file: Path, raw: Raw) -> Raw:
    """Replace the training samples by those of a label file; test and validation samples are unchanged.

    Raises:
        UserError: the file does not exist, is not a label file, or does not fit this data set.
    """
    indices, labels, classes = _read(file)
    classes = classes or raw.classes
    if classes[: len(raw.classes)] != raw.classes:
        raise UserError(f"data.labels {file}: its classes do not begin with the {len(raw.classes)} classes of the set")
    if labels.ndim not in (1, 2) or indices.shape != labels.shape[:1] or not labels.size:
        raise UserError(
            f"data.labels {file}: indices {list(indices.shape)} and labels {list(labels.shape)} should be [m] and [m] "
            "or [m, k]"
        )
    if indices.min() < 0 or indices.max() >= len(raw.train):
        raise UserError(f"data.labels {file}: an index is not among the set's {len(raw.train)} training samples")
    if labels.max() >= len(classes) or labels.min() < (0 if labels.ndim == 1 else -1):
        raise UserError(f"data.labels {file}: a label is out of range, there are {len(classes)} classes")
    if labels.ndim == 2 and (labels < 0).all(1).any():
        raise UserError(f"data.labels {file}: a sample has no label")
    # Indexing copies the images: avoid it if all samples are used once, in their order.
    same = len(indices) == len(raw.train) and (indices == np.arange(len(indices))).all()
    chosen = raw.train if same else raw.train[indices]
    return replace(raw, train=replace(chosen, labels=labels), classes=classes)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    if not file.is_file():
        raise UserError(f"data.labels: there is no file {file}")
    arrays = read_arrays(file, "a .npz file of whole numbers indices and labels", LARGEST_BYTES)
    missing = {"indices", "labels"} - arrays.keys()
    if missing:
        raise UserError(f"data.labels {file} has no array {min(missing)}")
    for name in ("indices", "labels"):
        if arrays[name].dtype.kind not in "iu" or not np.can_cast(arrays[name].dtype, np.int64, "safe"):
            raise UserError(f"data.labels {file}: {name} must be whole numbers, but are {arrays[name].dtype}")
    names = arrays.get("classes", np.array((), str))
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < len(names):
        raise UserError(f"data.labels {file}: classes must be a list of different names")
    classes = tuple(names.tolist())
    invalid = [name for name in classes if not is_class_name(name)]
    if invalid:
        raise UserError(f"data.labels {file}: class {invalid[0]!r} has control characters or is empty")
    return arrays["indices"].astype(np.int64), arrays["labels"].astype(np.int64), classes

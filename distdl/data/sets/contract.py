"""Check the members of another package's data set."""

from numbers import Real

import numpy as np

from distdl.core.contracts import described
from distdl.data.dataset import DataSet, EncodedSplit, ResidentSplit, Split


def problem(dataset: DataSet) -> str:
    """The first member of a data set that is wrong, and what is expected; empty if all fit."""
    classes = dataset.classes
    if not isinstance(classes, list | tuple) or not classes or not all(isinstance(each, str) for each in classes):
        return f"classes = {described(classes)}; expected the names of the classes, texts in a tuple"
    for field in ("image_size", "channels"):
        value = getattr(dataset, field)
        if not isinstance(value, int) or value < 1:
            return f"{field} = {described(value)}; expected a positive whole number"
    if not isinstance(dataset.central, Real) or not 0 < dataset.central <= 1:
        return f"central = {described(dataset.central)}; expected a number above 0, at most 1"
    for field in ("mean", "std"):
        values = getattr(dataset, field)
        if not isinstance(values, list | tuple) or not all(isinstance(each, Real) for each in values):
            return f"{field} = {described(values)}; expected numbers in a tuple"
        if len(values) not in (1, dataset.channels):
            return f"{len(values)} values of {field} for {dataset.channels} channels"
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        if (split is not None or name != "validation") and (text := _problem(split, dataset)):
            return f"{name} = {text}" if not isinstance(split, Split) else f"{name}.{text}"
    return ""


def _problem(split: object, dataset: DataSet) -> str:
    if not isinstance(split, Split):
        return f"{described(split)}; expected a ResidentSplit or an EncodedSplit"
    labels = split.labels
    if not isinstance(labels, np.ndarray) or labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        return f"labels = {described(labels)}; expected an array [n] or [n, k] of integers"
    if not len(labels):
        return "labels = an empty array; expected at least one sample"
    lowest, highest = (0 if labels.ndim == 1 else -1), len(dataset.classes) - 1
    if labels.min() < lowest or labels.max() > highest:
        return f"labels from {labels.min()} to {labels.max()}; expected {lowest} to {highest}: positions in classes"
    if isinstance(split, EncodedSplit):
        return "" if len(split.files) == len(labels) else f"files = {len(split.files)} for {len(labels)} labels"
    return _images_problem(split, dataset.channels)


def _images_problem(split: ResidentSplit, channels: int) -> str:
    images, expected = split.images, f"expected an array [{len(split)}, H, W, {channels}] of uint8"
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype != np.uint8:
        return f"images = {described(images)}; {expected}"
    if (images.shape[0], images.shape[3]) != (len(split), channels):
        return f"images = {described(images)}; {expected}"
    return ""

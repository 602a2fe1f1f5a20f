"""Random splits of labeled samples, balanced over the classes and determined by a seed."""

import numpy as np

from distdl.core.counter_rng import generator


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Select a fraction `share` of each class, rounded, but at least one and not all samples of a class with several.

    Args:
        labels: [n].
    Returns:
        indices of the remaining and of the selected samples, both ascending.
    """
    selected = np.zeros(len(labels), bool)
    for members in _shuffled_by_class(labels, seed):
        count = round(share * len(members))
        if len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        selected[members[:count]] = True
    return np.flatnonzero(~selected), np.flatnonzero(selected)


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Select `count` samples, the same number of each class as far as the classes have enough.

    Args:
        labels: [n].
    Returns:
        indices of the selected samples, ascending.
    """
    classes = _shuffled_by_class(labels, seed)
    ranks = np.concatenate([np.arange(len(members)) for members in classes])
    indices = np.concatenate(classes)
    return np.sort(indices[np.argsort(ranks, kind="stable")][:count])


def _shuffled_by_class(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    random = generator(seed)
    return [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]

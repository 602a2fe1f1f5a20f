"""Divisions of labelled samples, balanced over the classes and drawn by a seed: indices in, indices out."""

import numpy as np

from distdl.core.counter_rng import generator


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, taken), both ascending: of each class, `share` of its samples is taken, rounded.

    A class that has at least two samples keeps one and gives one.
    """
    taken = np.zeros(len(labels), bool)
    for members in _shuffled_by_class(labels, seed):
        count = round(share * len(members))
        if len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        taken[members[:count]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of `count` samples, ascending: as many of each class as of any other, as far as they go."""
    classes = _shuffled_by_class(labels, seed)
    turns = np.concatenate([np.arange(len(members)) for members in classes])
    everyone = np.concatenate(classes)
    return np.sort(everyone[np.argsort(turns, kind="stable")][:count])


def _shuffled_by_class(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    random = generator(seed)
    return [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]

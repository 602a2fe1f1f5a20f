"""Pseudo-labels from a teacher's scores: step 2 of Yalniz et al. 2019 (arXiv:1905.00546)."""

import numpy as np


def top_per_class(scores: np.ndarray, k: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Select for each class the `k` images with its highest scores, among those that have it in their `p` best classes.

    An image can therefore be selected for up to `p` classes, and classes that are rarely the best one get images too.
    Ties are broken by the lower index, of images and of classes.

    Args:
        scores: [n, classes]; larger is better, over classes and over images.
    Returns:
        indices [m] and labels [m] int64, class by class, best first; m = k x classes if there are enough images.
    Raises:
        ValueError: if k or p is less than 1, or p is larger than the number of classes.
    """
    classes = scores.shape[1]
    if k < 1 or not 1 <= p <= classes:
        raise ValueError(f"k must be at least 1 and p 1 to {classes}, not {k} and {p}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :p]
    counts = np.zeros(scores.shape, bool)
    np.put_along_axis(counts, best, True, axis=1)
    selected = []
    for label in range(classes):
        members = np.flatnonzero(counts[:, label])
        selected.append(members[np.argsort(-scores[members, label], kind="stable")[:k]])
    labels = np.repeat(np.arange(classes), [len(members) for members in selected])
    return np.concatenate(selected).astype(np.int64), labels.astype(np.int64)

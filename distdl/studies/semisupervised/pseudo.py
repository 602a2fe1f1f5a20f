"""Pseudo-labels from a teacher's scores: step 2 of Yalniz et al. 2019 (arXiv:1905.00546)."""

import numpy as np


def top_per_class(scores: np.ndarray, k: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Select for each class the `k` images with its highest scores, among those that have it in their `p` best classes.

    So an image may serve up to `p` classes, and a class that is rarely the best one is filled too. Of equal scores
    the lower index goes first, of images and of classes.

    Args:
        scores: [n, classes], larger is better: of one image over classes and of one class over images.
    Returns:
        indices [m] and labels [m] int64, class by class, best first; m = k x classes where there are enough.
    Raises:
        ValueError: k or p is not at least 1, or p is more than there are classes.
    """
    classes = scores.shape[1]
    if k < 1 or not 1 <= p <= classes:
        raise ValueError(f"k must be at least 1 and p 1 to {classes}, not {k} and {p}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :p]
    counts = np.zeros(scores.shape, bool)
    np.put_along_axis(counts, best, True, axis=1)
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(counts[:, label])
        chosen.append(members[np.argsort(-scores[members, label], kind="stable")[:k]])
    labels = np.repeat(np.arange(classes), [len(members) for members in chosen])
    return np.concatenate(chosen).astype(np.int64), labels.astype(np.int64)

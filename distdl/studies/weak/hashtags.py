"""Weak labels derived from true ones, and their sampling, after Mahajan et al. 2018 (arXiv:1805.00932).

Tags of images are [n, k] int64, one row per image, padded with -1. All functions are pure: random numbers depend only
on the given seed.
"""

from typing import Literal

import numpy as np

Sampling = Literal["natural", "square-root", "uniform"]
NONE = -1


def long_tail(labels: np.ndarray, imbalance: float, seed: int) -> np.ndarray:
    """Select a subset of the samples with a long-tailed class distribution. Returns ascending indices.

    The seed determines the order of the C classes. The class of rank r keeps imbalance ** (-r / (C - 1)) times the size
    of the smallest class: the most frequent class is `imbalance` times as frequent as the rarest.
    """
    random = _random(seed, 0)
    classes, counts = np.unique(labels, return_counts=True)
    selected = []
    for rank, label in enumerate(random.permutation(classes)):
        share = imbalance ** (-rank / max(len(classes) - 1, 1))
        selected.append(random.permutation(np.flatnonzero(labels == label))[: max(round(share * counts.min()), 1)])
    return np.sort(np.concatenate(selected))


def tagged(labels: np.ndarray, classes: int, synonyms: int, most: int, seed: int) -> np.ndarray:
    """Draw tags [n, most] of images: 1 to `most` of the `synonyms` of its class, the first of which is the class.

    The number of tags is uniform. The tags are drawn without replacement by Zipf's law: rank s has weight 1 / s. Tag
    `classes * s + c` is synonym s of class c, so that the first `classes` tags are the classes.
    """
    random = _random(seed, 1)
    counts = random.integers(1, most + 1, len(labels))
    # Weighted sampling without replacement by sorting exponential variates (Efraimidis and Spirakis 2006).
    waiting = random.exponential(size=(len(labels), synonyms)) * np.arange(1, synonyms + 1)
    sampled = np.argsort(waiting, axis=1)[:, :most]
    tags = sampled * classes + labels[:, None]
    return np.where(np.arange(most) < counts[:, None], tags, NONE)


def noisy(tags: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Replace `share` of the tags by others, drawn from the distribution of tags, as in the paper's section 3.1.2."""
    random = _random(seed, 2)
    places = np.argwhere(tags != NONE)
    replaced = places[random.permutation(len(places))[: round(share * len(places))]]
    rows, columns = replaced.T
    pool, changed = tags[tags != NONE], tags.copy()
    changed[rows, columns] = random.choice(pool, len(replaced))
    while len(same := np.flatnonzero(changed[rows, columns] == tags[rows, columns])) and len(np.unique(pool)) > 1:
        changed[rows[same], columns[same]] = random.choice(pool, len(same))
    return changed


def replication(tags: np.ndarray, sampling: Sampling, threshold: float) -> np.ndarray:
    """Number of repetitions of each image, [n] float64: the largest r(h) of its tags, r(h) = max(1, phi(t / f(h))).

    f(h) is the count of tag h, t is `threshold` times the largest count, and phi is the square root or the identity.
    With natural sampling each image occurs once.
    """
    if sampling == "natural":
        return np.ones(len(tags))
    counts = np.bincount(tags[tags != NONE])
    ratio = threshold * counts.max() / np.maximum(counts, 1)
    factor = np.maximum(np.sqrt(ratio) if sampling == "square-root" else ratio, 1)
    return np.where(tags == NONE, 0, factor[tags]).max(1)


def replicated(factors: np.ndarray, seed: int) -> np.ndarray:
    """Indices that repeat sample i factors[i] times on average: floor(factors[i]) times, or once more at random."""
    repeats = np.floor(factors).astype(np.int64)
    return np.repeat(np.arange(len(factors)), repeats + (_random(seed, 3).random(len(factors)) < factors - repeats))


def _random(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, stream]))

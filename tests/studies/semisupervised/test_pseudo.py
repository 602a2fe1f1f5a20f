"""Top-K per class with P labels per image, on scores that are small enough to verify by hand."""

import numpy as np
import pytest

from distdl.studies.semisupervised.pseudo import top_per_class

SCORES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.6, 0.3, 0.1],
        [0.5, 0.4, 0.1],
        [0.2, 0.7, 0.1],
    ]
)


def chosen(scores: np.ndarray, k: int, p: int) -> list[list[int]]:
    indices, labels = top_per_class(scores, k, p)
    assert indices.dtype == labels.dtype == np.int64 and (np.diff(labels) >= 0).all()
    return [indices[labels == label].tolist() for label in range(scores.shape[1])]


def test_the_best_of_each_class_come_first() -> None:
    assert chosen(SCORES, 2, 3) == [[0, 1], [3, 2], [1, 2]]


def test_p_keeps_an_image_from_classes_that_are_not_among_its_best() -> None:
    assert chosen(SCORES, 2, 1) == [[0, 1], [3], []]
    assert chosen(SCORES, 4, 2) == [[0, 1, 2, 3], [3, 2, 1, 0], []]


def test_an_image_may_serve_several_classes() -> None:
    indices, labels = top_per_class(SCORES, 3, 2)
    assert labels[indices == 2].tolist() == [0, 1]


def test_k_beyond_the_set_takes_all_once() -> None:
    assert [sorted(members) for members in chosen(SCORES, 100, 3)] == [[0, 1, 2, 3]] * 3


def test_of_equals_the_lower_index_goes_first() -> None:
    assert chosen(np.full((5, 3), 1 / 3), 2, 1) == [[0, 1], [], []]
    assert chosen(np.full((5, 3), 1 / 3), 2, 3) == [[0, 1]] * 3


def test_many_images_as_sorting_says() -> None:
    scores = np.random.default_rng(1).dirichlet(np.ones(10), 2000)
    for k, p in ((1, 10), (50, 1), (300, 3), (5000, 10)):
        for label, members in enumerate(chosen(scores, k, p)):
            # An image counts a class where fewer than p of its classes score higher: there are no equals here.
            able = [i for i in range(len(scores)) if (scores[i] > scores[i, label]).sum() < p]
            assert members == sorted(able, key=lambda i: -scores[i, label])[:k]


@pytest.mark.parametrize(("k", "p"), [(0, 1), (1, 0), (1, 4)])
def test_counts_out_of_range_are_refused(k: int, p: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        top_per_class(SCORES, k, p)

"""Selection of the top K images per class with P labels per image, on scores that are checked by hand."""

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


def test_the_highest_scores_of_each_class_are_selected() -> None:
    assert chosen(SCORES, 2, 3) == [[0, 1], [3, 2], [1, 2]]


def test_p_limits_an_image_to_its_best_classes() -> None:
    assert chosen(SCORES, 2, 1) == [[0, 1], [3], []]
    assert chosen(SCORES, 4, 2) == [[0, 1, 2, 3], [3, 2, 1, 0], []]


def test_an_image_may_be_selected_for_several_classes() -> None:
    indices, labels = top_per_class(SCORES, 3, 2)
    assert labels[indices == 2].tolist() == [0, 1]


def test_k_above_the_number_of_images_selects_each_once() -> None:
    assert [sorted(members) for members in chosen(SCORES, 100, 3)] == [[0, 1, 2, 3]] * 3


def test_equal_scores_are_ordered_by_index() -> None:
    assert chosen(np.full((5, 3), 1 / 3), 2, 1) == [[0, 1], [], []]
    assert chosen(np.full((5, 3), 1 / 3), 2, 3) == [[0, 1]] * 3


def test_many_images_match_a_full_sort() -> None:
    scores = np.random.default_rng(1).dirichlet(np.ones(10), 2000)
    for k, p in ((1, 10), (50, 1), (300, 3), (5000, 10)):
        for label, members in enumerate(chosen(scores, k, p)):
            # An image is a candidate for a class if fewer than p of its classes score higher; no scores are equal.
            candidates = [i for i in range(len(scores)) if (scores[i] > scores[i, label]).sum() < p]
            assert members == sorted(candidates, key=lambda i: -scores[i, label])[:k]


@pytest.mark.parametrize(("k", "p"), [(0, 1), (1, 0), (1, 4)])
def test_counts_out_of_range_are_refused(k: int, p: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        top_per_class(SCORES, k, p)

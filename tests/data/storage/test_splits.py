"""Random splits: sizes by class, the same selection for a seed."""

import numpy as np
import pytest

from distdl.data.storage.splits import balanced, stratified

LABELS = np.repeat([0, 1, 2, 3], [10, 4, 2, 1])


@pytest.mark.parametrize(
    ("share", "selected"),
    [(0.01, [1, 1, 1, 0]), (0.5, [5, 2, 1, 0]), (0.6, [6, 2, 1, 1]), (0.99, [9, 3, 1, 1])],
)
def test_the_share_of_each_class_is_rounded_but_neither_none_nor_all(share: float, selected: list[int]) -> None:
    remaining, chosen = stratified(LABELS, share, seed=1)
    assert np.bincount(LABELS[chosen], minlength=4).tolist() == selected
    assert sorted([*remaining, *chosen]) == list(range(len(LABELS)))
    assert (np.diff(remaining) > 0).all() and (np.diff(chosen) > 0).all()


@pytest.mark.parametrize(
    ("count", "selected"), [(4, [1, 1, 1, 1]), (7, [2, 2, 2, 1]), (9, [3, 3, 2, 1]), (17, [10, 4, 2, 1])]
)
def test_a_balanced_selection_has_the_same_number_of_each_class_as_far_as_possible(
    count: int, selected: list[int]
) -> None:
    chosen = balanced(LABELS, count, seed=1)
    assert np.bincount(LABELS[chosen], minlength=4).tolist() == selected
    assert (np.diff(chosen) > 0).all()


def test_another_seed_selects_other_samples() -> None:
    first, again, other = (stratified(LABELS, 0.5, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other

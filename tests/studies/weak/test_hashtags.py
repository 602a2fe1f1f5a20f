"""Tags, their noise and their sampling, compared with hand calculations."""

import numpy as np
import pytest

from distdl.studies.weak.hashtags import NONE, long_tail, noisy, replicated, replication, tagged

LABELS = np.arange(10_000) % 10


def test_class_sizes_fall_by_the_imbalance() -> None:
    selected = long_tail(LABELS, 100, seed=1)
    assert (np.diff(selected) > 0).all()
    counts = np.sort(np.bincount(LABELS[selected]))[::-1]
    assert counts.tolist() == [1000, 599, 359, 215, 129, 77, 46, 28, 17, 10]  # 1000 / 100 ** (rank / 9)
    assert np.array_equal(selected, long_tail(LABELS, 100, seed=1))
    assert not np.array_equal(np.bincount(LABELS[selected]), np.bincount(LABELS[long_tail(LABELS, 100, seed=2)]))
    assert len(long_tail(LABELS, 1, seed=1)) == len(LABELS)


def test_tags_belong_to_the_class_and_do_not_repeat() -> None:
    tags = tagged(LABELS, 10, synonyms=4, most=3, seed=1)
    assert tags.shape == (10_000, 3) and (tags[:, 0] != NONE).all()
    assert (tags[tags != NONE] % 10 == np.broadcast_to(LABELS[:, None], tags.shape)[tags != NONE]).all()
    assert all(len(set(row[row != NONE])) == (row != NONE).sum() for row in tags[:500])
    counts = (tags != NONE).sum(1)
    assert np.allclose(np.bincount(counts)[1:] / 10_000, 1 / 3, atol=0.02)
    alone = tags[counts == 1, 0] // 10
    weights = 1 / np.arange(1, 5)
    assert np.allclose(np.bincount(alone) / len(alone), weights / weights.sum(), atol=0.03)  # Zipf


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_noise_replaces_a_share_of_the_tags(share: float) -> None:
    tags = tagged(LABELS, 10, synonyms=4, most=3, seed=1)
    changed = noisy(tags, share, seed=1)
    assert np.array_equal(changed == NONE, tags == NONE)
    assert (changed != tags).sum() == round(share * (tags != NONE).sum())
    if share == 1:
        share, noisy_share = (np.bincount(some[some != NONE]) / (some != NONE).sum() for some in (tags, changed))
        assert np.allclose(share, noisy_share, atol=0.01)  # replacements have the frequencies of the tags


def test_replication_matches_hand_calculation() -> None:
    # Counts: tag 0 eight times, tag 1 twice, tag 2 once. t is the largest count: r = 1, 4, 8 and their roots.
    tags = np.array([[0, NONE]] * 6 + [[0, 1], [1, NONE], [0, 2]])
    assert replication(tags, "natural", 1.0).tolist() == [1] * 9
    assert replication(tags, "uniform", 1.0).tolist() == [1] * 6 + [4, 4, 8]  # the largest of an image's tags
    assert np.allclose(replication(tags, "square-root", 1.0), [1] * 6 + [2, 2, 8**0.5])
    assert replication(tags, "uniform", 0.5).tolist() == [1] * 6 + [2, 2, 4]


def test_the_number_of_replicas_matches_the_factors() -> None:
    assert np.bincount(replicated(np.array([1.0, 3.0, 2.0]), seed=1)).tolist() == [1, 3, 2]
    counts = np.bincount(replicated(np.full(10_000, 2.25), seed=1))
    assert set(counts) == {2, 3} and np.isclose(counts.mean(), 2.25, atol=0.02)


def test_uniform_sampling_balances_the_tags() -> None:
    images = long_tail(LABELS, 100, seed=1)
    tags = tagged(LABELS[images], 10, synonyms=1, most=1, seed=1)
    rows = replicated(replication(tags, "uniform", 1.0), seed=1)
    counts = np.bincount(tags[rows, 0])
    assert counts.max() / counts.min() < 1.02

"""Seeds and micro-batches of a step; tests/integration/test_equivalence.py compares complete steps."""

from collections.abc import Callable

import pytest
import torch

from distdl.data.dataset import Batch
from distdl.training import step
from distdl.training.step import micro_batches, step_seed


def test_seeds_differ_by_seed_step_and_rank() -> None:
    places = [(seed, step, rank) for seed in (0, 1, 2**40) for step in (0, 1, 2) for rank in (0, 1, 2)]
    seeds = {step_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_each_step_seeds_the_generators_by_its_position(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(step, "_seed_generators", lambda seed, device: seeds.append(seed))
    make(seed=7).train_epoch()
    assert seeds == [step_seed(7, number, 0) for number in range(3)]


@pytest.mark.parametrize(("samples", "parts"), [(8, 1), (8, 4), (7, 3), (2, 4), (1, 1)])
def test_micro_batches_have_every_sample_once_in_even_parts(samples: int, parts: int) -> None:
    images, labels = torch.arange(samples * 4.0).view(samples, 1, 2, 2), torch.arange(samples)
    batch = Batch(images, labels, count=samples, weight=1.0, total=samples, indices=labels.numpy())
    chunks = micro_batches(batch, parts)
    assert len(chunks) == min(parts, samples)
    assert torch.equal(torch.cat([images for images, _ in chunks]), images)
    assert torch.equal(torch.cat([labels for _, labels in chunks]), labels)
    sizes = {len(images) for images, _ in chunks}
    assert max(sizes) - min(sizes) <= 1

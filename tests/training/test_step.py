"""Seeds and micro-batches of a step; tests/integration/test_equivalence.py compares complete steps."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from distdl.core.config import OptimConfig
from distdl.data.dataset import Batch
from distdl.training import step as module
from distdl.training.step import micro_batches, step_seed
from gpu_fake import CUDA


def test_seeds_differ_by_seed_step_and_rank() -> None:
    places = [(seed, step, rank) for seed in (0, 1, 2**40) for step in (0, 1, 2) for rank in (0, 1, 2)]
    seeds = {step_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_each_step_seeds_the_generators_by_its_position(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(module, "_seed_generators", lambda seed, device: seeds.append(seed))
    make(seed=7).train_epoch()
    assert seeds == [step_seed(7, number, 0) for number in range(3)]


@pytest.mark.parametrize(
    ("place", "seed"),
    [
        ((0, 0, 0), 0),
        ((0, 1, 0), 4564476756301768121),
        ((0, 0, 1), 1499779743744070123),
        ((3, 7, 2), 4589436981586681892),
    ],
)
def test_the_seed_of_a_step_never_changes(place: tuple[int, int, int], seed: int) -> None:
    """Otherwise a training would continue with other masks after a resume in a newer version."""
    assert step_seed(*place) == seed


def mask(seed: int) -> list[bool]:
    module._seed_generators(seed, torch.device("cpu"))
    return torch.nn.functional.dropout(torch.ones(200), 0.5).bool().tolist()


def test_masks_of_steps_and_ranks_differ_pairwise_and_repeat() -> None:
    places = [(3, step, rank) for step in range(3) for rank in range(3)]
    masks = [mask(step_seed(*place)) for place in places]
    assert len({tuple(each) for each in masks}) == len(places)
    assert masks == [mask(step_seed(*place)) for place in places]


def test_the_generator_of_a_gpu_gets_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    module._seed_generators(11, CUDA)
    module._seed_generators(12, torch.device("cpu"))
    assert seeds == [11]


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


@pytest.mark.parametrize(
    ("images", "sizes"), [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (4, [1, 1, 1, 1]), (8, [2, 2, 2, 2])]
)
def test_a_batch_has_as_many_micro_batches_as_images_at_most(make: Callable, images: int, sizes: list[int]) -> None:
    trainer = make(optim=OptimConfig(accumulate=4))
    forward, seen = trainer.step._forward, []
    trainer.step._forward = lambda inputs: seen.append(len(inputs)) or forward(inputs)
    full = next(trainer.loaders["train"].epoch(0))
    batch = replace(full, images=full.images[:images], labels=full.labels[:images], total=images)
    trainer.step.run(batch)
    assert seen == sizes


@pytest.mark.parametrize(("total", "sizes"), [(2, [1]), (3, [2]), (4, [1, 1])])
def test_ranks_have_as_many_micro_batches_as_the_smallest_share_of_a_batch(
    make: Callable, total: int, sizes: list[int]
) -> None:
    """Of 3 images the other one of two ranks has only one, and all ranks run the network equally often."""
    trainer = make(optim=OptimConfig(accumulate=4))
    trainer.strategy.world = replace(trainer.strategy.world, size=2)
    forward, seen = trainer.step._forward, []
    trainer.step._forward = lambda inputs: seen.append(len(inputs)) or forward(inputs)
    full, images = next(trainer.loaders["train"].epoch(0)), sum(sizes)
    batch = replace(full, images=full.images[:images], labels=full.labels[:images], total=total)
    trainer.step.run(batch)
    assert seen == sizes

"""The specification of a loader: batch sizes, order, and shares of a step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from distdl.core.config import AugmentConfig, Config, DataConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.data.dataset import DataSet, EncodedSplit, ResidentSplit
from distdl.data.files import ShardParts
from distdl.data.loaders import order
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from numbered_sets import numbered
from small_loaders import config_of, loader_of


def spec_of(
    n: int = 31, rank: int = 0, world: int = 1, *, training: bool = True, accumulate: int = 1, **data: object
) -> LoaderSpec:
    split = ResidentSplit(labels=np.arange(n), images=np.zeros((n, 2, 3, 1), np.uint8))
    dataset = DataSet(name="n", classes=("a",) * n, train=split, test=split[np.arange(n)], image_size=24, central=0.5)
    config = Config(seed=3, data=DataConfig(**data), optim=OptimConfig(accumulate=accumulate))
    place = World(rank=rank, size=world)
    return LoaderSpec(config=config, dataset=dataset, split=split, world=place, training=training)


@pytest.mark.parametrize(
    ("training", "data", "global_batch", "batch"),
    [
        (True, {}, 192, 64),
        (True, {"batch_size": 5}, 15, 5),
        (True, {"global_batch": 10}, 10, 4),
        (False, {"batch_size": 5}, 30, 10),
        (False, {"global_batch": 10}, 24, 8),
        (False, {"batch_size": 5, "eval_batch_size": 7}, 21, 7),
    ],
)
def test_samples_of_a_step(training: bool, data: dict[str, int], global_batch: int, batch: int) -> None:
    """Three ranks. The default batch of evaluation is twice the largest share of a rank."""
    spec = spec_of(world=3, training=training, **data)
    assert (spec.global_batch, spec.batch) == (global_batch, batch)


def test_a_training_step_has_ranks_times_micro_batches_pieces() -> None:
    assert spec_of(world=3, accumulate=2, batch_size=4).pieces == 6
    assert spec_of(world=3, accumulate=2, batch_size=4, training=False).pieces == 0


def test_image_sizes_in_pixels() -> None:
    spec = spec_of()
    assert (spec.size, spec.read_size, spec.central, spec.ten_crop) == (24, 24, 0.5, False)
    assert spec_of(image_size=16).size == 16
    tested = replace(spec_of(ten_crop=True, training=False, image_size=28), split=spec.dataset.test)
    assert not tested.ten_crop, "the split belongs to another data set"
    tested = replace(tested, split=tested.dataset.test)
    assert (tested.ten_crop, tested.size, tested.read_size, tested.central) == (True, 28, 32, 1.0)
    assert not replace(tested, training=True).ten_crop


@settings(max_examples=60)
@given(some.integers(1, 80), some.integers(1, 5), some.integers(1, 9), some.booleans(), some.integers(0, 3))
def test_ranks_share_the_epoch(n: int, world: int, batch: int, training: bool, epoch: int) -> None:
    specs = [spec_of(n, rank, world, training=training, batch_size=batch) for rank in range(world)]
    sequence = specs[0].sequence(epoch)
    assert sequence.tolist() == (order.order(3, epoch, n).tolist() if training else list(range(n)))
    steps = [list(spec.steps(epoch)) for spec in specs]
    assert {len(each) for each in steps} == {len(specs[0])}
    seen = [part.indices[: part.count] for parts in zip(*steps, strict=True) for part in parts]
    assert np.concatenate(seen).tolist() == sequence.tolist()
    assert all(len(part.indices) <= spec.batch for spec, parts in zip(specs, steps, strict=True) for part in parts)
    if training:
        sizes = [part.total // world // 1 for part in steps[0]]
        assert specs[0].smallest_piece() == min(sizes)


def test_drop_last_applies_in_training_only() -> None:
    assert [len(spec_of(10, batch_size=4, drop_last=True, training=training)) for training in (True, False)] == [2, 2]
    assert [len(spec_of(9, batch_size=4, drop_last=True, training=training)) for training in (True, False)] == [2, 2]
    assert len(spec_of(9, batch_size=4, drop_last=False)) == 3
    assert sum(step.count for step in spec_of(9, batch_size=4, drop_last=True, training=False).steps(0)) == 9
    assert sum(step.count for step in spec_of(9, batch_size=4, drop_last=True).steps(0)) == 8


def test_a_start_is_counted_over_all_ranks() -> None:
    spec = spec_of(20, 1, 2, batch_size=5)
    assert [step.position for step in spec.steps(0)] == [0, 10]
    assert [step.position for step in spec.steps(0, start=10)] == [10]


def test_steps_are_compared_with_those_of_one_rank() -> None:
    """With several ranks, the last steps may divide their samples evenly, where one rank has a short last step."""
    answers = []
    for n in range(12, 60):
        together, alone = spec_of(n, world=4, global_batch=12), spec_of(n, global_batch=12)
        same = [step.total for step in together.steps(0)] == [step.total for step in alone.steps(0)]
        assert together.divides_as_one_rank() == same
        assert alone.divides_as_one_rank()
        answers.append(same)
    assert any(answers) and not all(answers)


def test_parameters_are_drawn_in_training_only_by_seed_epoch_and_sample() -> None:
    augment = AugmentConfig(flip=0.5, crop=2)
    spec = spec_of(augment=augment)
    assert spec_of(augment=augment, training=False).draw(0, np.arange(31)) == {}
    draws = spec.draw(0, np.arange(31))
    assert draws.keys() == {"flip", "shift"} and draws["shift"].min() >= 0 and draws["shift"].max() <= 4
    assert (spec.draw(0, np.array([7]))["shift"] == draws["shift"][[7]]).all()
    assert (spec.draw(1, np.arange(31))["shift"] != draws["shift"]).any()
    other = replace(spec, config=replace(spec.config, seed=4))
    assert (other.draw(0, np.arange(31))["shift"] != draws["shift"]).any()


def test_large_files_are_read_block_by_block() -> None:
    offset = np.arange(40) * 2**21  # four to a block of 8 MiB
    parts = ShardParts([Path("a.tar")], np.zeros(40, np.int64), offset, np.full(40, 2**21))
    spec = replace(spec_of(40), split=EncodedSplit(labels=np.arange(40), files=parts))
    assert spec.shard_parts is parts and spec_of().shard_parts is None
    assert spec.sequence(1).tolist() == order.order_in_blocks(3, 1, np.arange(0, 41, 4)).tolist()
    assert replace(spec, training=False).sequence(1).tolist() == list(range(40))


def test_a_batch_is_weighted_by_its_number_of_samples() -> None:
    spec = spec_of(world=3)
    step = order.Step(np.array([4, 9, 2]), 2, 8, 0)
    batch = spec.deliver(step, torch.zeros(3), torch.zeros(3))
    assert (batch.count, batch.total, batch.weight, batch.indices.tolist()) == (2, 8, 2 * 3 / 8, [4, 9])
    assert spec.deliver(step, torch.zeros(3), torch.zeros(3), np.array([5, 9, 2])).indices.tolist() == [5, 9]


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 1), (5, 2)])
def test_a_global_batch_below_the_ranks_is_refused(batch: int, accumulate: int, tmp_path: Path) -> None:
    config = config_of("resident", batch_size=None, global_batch=batch)
    config = replace(config, optim=OptimConfig(accumulate=accumulate))
    with pytest.raises(
        UserError, match=rf"data.global_batch {batch} is too small for 3 ranks.* at least {3 * accumulate}"
    ):
        loader_of(config, numbered("memory", 31, tmp_path), 0, 3)

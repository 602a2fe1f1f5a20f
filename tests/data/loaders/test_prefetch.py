"""Read-ahead in large files."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distdl.core.config import Config
from distdl.data.dataset import DataSet
from distdl.data.files import ShardParts
from distdl.data.loaders import order
from distdl.data.loaders import prefetch as ahead
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from packed_sets import packed


def test_blocks_are_read_ahead_once_and_in_the_order_of_their_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "BLOCKS_PER_GROUP", 3)
    monkeypatch.setattr(order.groups, "__defaults__", (3,))
    monkeypatch.setattr(ShardParts.blocks, "__defaults__", (4000,))
    _, packed_set = packed("shards", 31, tmp_path)
    spec = LoaderSpec(config=Config(seed=3), dataset=packed_set, split=packed_set.train, world=World(), training=True)
    reading = ahead.ReadAhead(spec, spec.shard_parts, 0)
    assert len(reading.groups) > 3
    with reading:
        reading.advance(31)
        reading._thread.join(60)
    sizes = np.cumsum([len(group) for group in reading.groups])
    assert sorted(reading.read) == sorted(set(reading.read))
    with ahead.ReadAhead(spec, spec.shard_parts, 0) as reading:
        for position in range(32):
            reading.advance(position)
            group = int(np.searchsorted(reading.group_starts, position, "right")) - 1
            assert len(reading.read) <= sizes[min(group + 1, len(sizes) - 1)]


def spec_of(packed_set: DataSet, training: bool = True, **place: int) -> LoaderSpec:
    return LoaderSpec(
        config=Config(seed=3), dataset=packed_set, split=packed_set.train, world=World(**place), training=training
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4,000 bytes, three of them in a group."""
    monkeypatch.setattr(order.groups, "__defaults__", (3,))
    monkeypatch.setattr(ShardParts.blocks, "__defaults__", (4000,))


def read_along(spec: LoaderSpec, start: int = 0) -> ahead.ReadAhead:
    """Request the samples from `start` on, group by group, each when the thread has read all that it may read ahead."""
    with ahead.ReadAhead(spec, spec.shard_parts, 0, start) as reading:
        for number, group in enumerate(reading.groups):
            if reading.group_starts[number + 1] <= start:
                continue
            if reading.group_starts[max(number - 1, 0)] > start:
                assert not set(group.tolist()) & set(reading.read), "it is one group ahead, not two"
            reading.advance(int(reading.group_starts[max(number - 1, 0)]))
            due = set(np.sort(group)[reading.share].tolist())
            wait_for(lambda due=due: due <= set(reading.read))
    return reading


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("behind", [0, 2])
def test_groups_before_the_start_position_are_not_read(behind: int, tmp_path: Path) -> None:
    _, packed_set = packed("shards", 31, tmp_path)
    spec = spec_of(packed_set)
    complete = ahead.ReadAhead(spec, spec.shard_parts, 0)
    reading = read_along(spec, start=int(complete.group_starts[behind]))
    assert reading.read == [block for group in complete.groups[behind:] for block in np.sort(group).tolist()]


@pytest.mark.usefixtures("small_blocks")
def test_ranks_of_a_host_divide_the_blocks(tmp_path: Path) -> None:
    _, packed_set = packed("shards", 31, tmp_path)
    reads = [read_along(spec_of(packed_set, local_rank=rank, local_size=2)).read for rank in range(2)]
    blocks = len(packed_set.train.files.blocks()) - 1
    assert sorted(reads[0] + reads[1]) == list(range(blocks)) and 0 < len(reads[1]) <= len(reads[0]) < blocks


@pytest.mark.usefixtures("small_blocks")
def test_a_missing_file_does_not_end_the_read_ahead(tmp_path: Path) -> None:
    _, packed_set = packed("shards", 31, tmp_path)
    for file in packed_set.train.files.paths:
        file.unlink()
    reading = read_along(spec_of(packed_set))
    assert len(reading.read) == len(reading.bounds) - 1


def test_steps_match_the_specification(tmp_path: Path) -> None:
    _, packed_set = packed("shards", 31, tmp_path)
    for training in (True, False):
        spec = spec_of(packed_set, training)
        for start in (0, 7):
            steps = list(ahead.steps_ahead(spec, 1, start))
            assert [step.indices.tolist() for step in steps] == [step.indices.tolist() for step in spec.steps(1, start)]
    assert not [thread for thread in threading.enumerate() if thread.name == "distdl-read-ahead"]


@pytest.mark.usefixtures("small_blocks")
def test_an_abandoned_epoch_ends_the_thread(tmp_path: Path) -> None:
    _, packed_set = packed("shards", 31, tmp_path)
    steps = ahead.steps_ahead(spec_of(packed_set), 0, 0)
    next(steps)
    assert [thread for thread in threading.enumerate() if thread.name == "distdl-read-ahead"]
    steps.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "distdl-read-ahead"]

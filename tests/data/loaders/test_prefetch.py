"""Reading ahead in large files."""

from pathlib import Path

import numpy as np
import pytest

from distdl.core.config import Config
from distdl.data.files import ShardParts
from distdl.data.loaders import order
from distdl.data.loaders import prefetch as ahead
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from packed_sets import packed


def test_blocks_are_read_ahead_once_and_in_the_order_of_their_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "TOGETHER", 3)
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
            group = int(np.searchsorted(reading.begins, position, "right")) - 1
            assert len(reading.read) <= sizes[min(group + 1, len(sizes) - 1)]

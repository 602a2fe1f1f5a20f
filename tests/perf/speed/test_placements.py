"""Placements: columns by name, feasibility, and the measured range."""

import numpy as np
import pytest

from distdl.perf.speed.placements import Placements

SERVERS = Placements(kind="servers", points=np.array([(1, 4, 64), (2, 8, 4)], float))
REPLICAS = Placements(kind="replicas", points=np.array([(1, 4, 32), (8, 4, 32)], float))


def test_columns_are_read_by_name() -> None:
    assert SERVERS.servers.tolist() == [1, 2] and SERVERS.workers.tolist() == [4, 8] and SERVERS.batch[0] == 64
    assert REPLICAS.nodes.tolist() == [1, 8] and REPLICAS.replicas[0] == 4 and REPLICAS.local_batch[0] == 32


def test_a_column_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError):
        _ = SERVERS.nodes
    with pytest.raises(ValueError):
        _ = REPLICAS.workers


def test_each_worker_needs_a_sample_and_each_node_a_replica() -> None:
    assert SERVERS.is_feasible.tolist() == [True, False]
    assert REPLICAS.is_feasible.tolist() == [True, False]


def test_the_measured_range_is_a_box() -> None:
    others = SERVERS.at(np.array([(2, 5, 10), (3, 5, 10)], float))
    assert others.is_within(SERVERS).tolist() == [True, False]
    assert SERVERS.name(others.points[0]) == "servers 2, workers 5, batch_size 10"

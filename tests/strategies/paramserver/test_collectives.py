"""Collectives through a server, for any type, shape and operation, and after workers have left."""

import pytest
import torch

from distdl.core.config import Config
from distdl.strategies.paramserver.collectives import ServerCollectives
from distdl.strategies.paramserver.protocol import Peer
from server_job import run_job


def test_reductions_of_three_workers() -> None:
    def reduce(rank: int, peer: Peer) -> list[torch.Tensor]:
        collectives, value = ServerCollectives(peer, rank), [[rank, -rank], [2**40 + rank, 5]]
        return [collectives.all_reduce(torch.tensor(value), op) for op in ("sum", "max", "min")]

    results, _ = run_job(Config(), 3, reduce)
    big = 2**40
    for sums, largest, smallest in results:
        assert sums.dtype == torch.int64
        assert sums.tolist() == [[3, -3], [3 * big + 3, 15]]
        assert largest.tolist() == [[2, 0], [big + 2, 5]]
        assert smallest.tolist() == [[0, -2], [big, 5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.uint8])
def test_the_result_is_in_place_and_of_the_same_type(dtype: torch.dtype) -> None:
    def reduce(rank: int, peer: Peer) -> tuple[bool, torch.Tensor]:
        matrix = torch.full((2, 3), rank + 1, dtype=dtype)
        part = matrix[:, ::2]  # with gaps
        returned = ServerCollectives(peer, rank).all_reduce(part)
        return returned is part, matrix

    for in_place, matrix in run_job(Config(), 2, reduce)[0]:
        assert in_place and matrix.dtype == dtype
        assert matrix[:, ::2].tolist() == [[3, 3], [3, 3]]
        assert matrix[:, 1].unique().item() in (1, 2)


def test_a_broadcast_sends_the_tensor_of_the_source() -> None:
    def broadcast(rank: int, peer: Peer) -> list[list[float]]:
        collectives = ServerCollectives(peer, rank)
        values = [collectives.broadcast(torch.tensor([rank + 1.0, float("inf")]), source) for source in (0, 2)]
        return [value.tolist() for value in [*values, collectives.broadcast(torch.tensor([rank + 1.0]))]]

    assert run_job(Config(), 3, broadcast)[0] == [[[1, float("inf")], [3, float("inf")], [1]]] * 3


def test_the_others_continue_without_a_worker_that_has_left() -> None:
    def reduce(rank: int, peer: Peer) -> float:
        collectives = ServerCollectives(peer, rank)
        collectives.barrier()
        return 0.0 if rank == 2 else float(collectives.all_reduce(torch.ones(1)))

    results, server = run_job(Config(), 3, reduce)
    assert results == [2, 2, 0]
    assert server.alive == set()

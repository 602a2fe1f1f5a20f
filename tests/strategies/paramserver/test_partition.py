"""Assignment of tensors to servers."""

import itertools

import pytest

from distdl.strategies.paramserver.partition import ASSIGNMENTS, SIZE_THRESHOLD, balance

SIZES = [9, 4_000_000, 64, 2_359_296, 10, 512_000, 1, 36_864]


@pytest.mark.parametrize("how", ASSIGNMENTS)
@pytest.mark.parametrize("servers", [1, 2, 3, 8])
def test_every_element_is_on_exactly_one_server(how: str, servers: int) -> None:
    assignment = ASSIGNMENTS[how](SIZES, servers)
    assert len(assignment) == servers
    covered = sorted((piece.tensor, piece.start, piece.stop) for pieces in assignment for piece in pieces)
    for tensor, size in enumerate(SIZES):
        ends = [(start, stop) for owner, start, stop in covered if owner == tensor]
        assert ends[0][0] == 0
        assert ends[-1][1] == size
        assert all(first[1] == second[0] for first, second in itertools.pairwise(ends))


def test_the_imbalance_of_each_assignment_is_within_its_bound() -> None:
    def worst(how: str) -> float:
        return max(row["imbalance"] for row in balance(ASSIGNMENTS[how](SIZES, 4), 4))

    assert worst("balanced") < 1.34  # a list schedule is within 4/3 of the optimum
    assert worst("balanced") <= worst("size-threshold") <= worst("round-robin")
    assert SIZE_THRESHOLD == 1_000_000
    rows = balance(ASSIGNMENTS["round-robin"]([10, 20, 30], 2), 4)
    assert rows == [
        {"bytes": 160, "requests": 2, "imbalance": 160 / 120},
        {"bytes": 80, "requests": 1, "imbalance": 80 / 120},
    ]

"""The samples that produced the final weights, from logs of killed and resumed runs."""

import json
from collections import Counter
from pathlib import Path

from distdl.verify.samples import read_legs, sample_counts


def write(folder: Path, leg: int, rank: int, resumed_from: int, steps: dict[int, tuple[int, list[int]]]) -> Path:
    """Write the log of a rank."""
    file = folder / f"leg-{leg:04d}-rank-{rank}.jsonl"
    rows = [{"resumed_from": resumed_from, "pid": 100 + rank}]
    rows += [{"step": step, "epoch": epoch, "indices": indices} for step, (epoch, indices) in steps.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_steps_after_the_checkpoint_are_dropped_and_trained_again_on_other_ranks(tmp_path: Path) -> None:
    write(tmp_path, 0, 0, 0, {1: (0, [0, 1]), 2: (0, [4, 5]), 3: (0, [9])})
    write(tmp_path, 0, 1, 0, {1: (0, [2, 3]), 2: (0, [6, 7])})  # killed before its third step
    write(tmp_path, 1, 0, 1, {2: (0, [4, 5, 6, 7]), 3: (0, [8, 9]), 4: (1, [3, 1])})
    legs = read_legs(tmp_path)
    assert [(leg.resumed_from, leg.last, leg.pids) for leg in legs] == [(0, 3, (100, 101)), (1, 4, (100,))]
    assert sample_counts(legs) == {0: Counter(range(10)), 1: Counter([1, 3])}


def test_a_sample_seen_twice_is_counted_twice(tmp_path: Path) -> None:
    write(tmp_path, 0, 0, 0, {1: (0, [0, 1]), 2: (0, [1, 2])})
    assert sample_counts(read_legs(tmp_path)) == {0: Counter({0: 1, 1: 2, 2: 1})}


def test_an_incomplete_row_is_ignored(tmp_path: Path) -> None:
    file = write(tmp_path, 0, 0, 0, {1: (0, [0])})
    with file.open("a") as log:
        log.write('{"step": 2, "epoch": 0, "ind')
    assert sample_counts(read_legs(tmp_path)) == {0: Counter([0])}

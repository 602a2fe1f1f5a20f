"""Replay of recorded compute times: random recorded steps, with a separate random stream per rank."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.errors import UserError
from distdl.runtime.world import World
from distdl.strategies import replay
from distdl.strategies.replay import Replay, load, wait
from simulated_time import simulate_time

TIMES = np.array([(0.1 * step, step) for step in range(1, 6)])


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting times, recorded instead of waited."""
    seconds: list[float] = []
    monkeypatch.setattr(replay, "wait", seconds.append)
    return seconds


def steps(network: Replay, waits: list[float], count: int = 40) -> list[tuple[float, float]]:
    """Forward and backward times of the next steps."""
    waits.clear()
    for _ in range(count):
        network(torch.zeros(2, 1))
        network.backward()
    return list(zip(waits[0::2], waits[1::2], strict=True))


def test_forward_and_backward_belong_to_one_recorded_step(waits: list[float]) -> None:
    sampled = steps(Replay(TIMES, 3, seed=0), waits, 100)
    assert set(sampled) == {tuple(row) for row in TIMES.tolist()}


def test_a_stream_is_repeated_by_its_seed(waits: list[float]) -> None:
    streams = [steps(Replay(TIMES, 3, seed), waits) for seed in (0, 0, 1)]
    assert streams[0] == streams[1] != streams[2]


def test_the_output_is_one_row_per_image() -> None:
    network = Replay(np.zeros((1, 2)), 3, seed=0)
    logits = network(torch.zeros(5, 1, 8, 8))
    assert logits.shape == (5, 3) and not logits.any()
    assert [parameter.shape for parameter in network.parameters()] == [(1, 3)]


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-4, 5e-3])
def test_a_wait_is_exact_although_a_sleep_ends_late(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each sleep of the simulated clock ends 0.1 ms late, as on a real machine."""
    clock = simulate_time(monkeypatch, replay)
    monkeypatch.setattr(clock, "sleep", lambda duration: clock.advance(duration + 1e-4))
    wait(seconds)
    assert max(seconds, 0) <= clock.now < max(seconds, 0) + 2e-4


def recorded(file: Path, count: int) -> str:
    rows = [{"step": step, "forward_s": step, "backward_s": 10 * step, "wait_s": 1} for step in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"replay:{file}"


@pytest.mark.parametrize(("count", "replayed"), [(1, [0]), (2, [1]), (3, [2]), (4, [3]), (6, [3, 4, 5])])
def test_the_first_steps_of_a_record_are_omitted(tmp_path: Path, count: int, replayed: list[int]) -> None:
    network = load(recorded(tmp_path / "worker-0.jsonl", count), 3, World(), seed=0)
    assert network.seconds.tolist() == [[step, 10 * step] for step in replayed]


def test_ranks_sample_from_separate_streams(tmp_path: Path, waits: list[float]) -> None:
    record = recorded(tmp_path / "r.jsonl", 40)
    streams = [
        tuple(steps(load(record, 3, World(rank=rank, size=3), seed), waits)) for seed in (0, 1) for rank in range(3)
    ]
    assert len(set(streams)) == 6
    assert streams[4] == tuple(steps(load(record, 3, World(rank=1, size=3), 1), waits))


WRONG = {
    "no time": ("", "no times that can be replayed"),
    "not JSON": ("{", "is not a worker's record: rows need forward_s and backward_s"),
    "no object": ("[1]", "is not a worker's record"),
    "another key": ('{"forward_s": 1}', "is not a worker's record"),
    "a text": ('{"forward_s": "x", "backward_s": 1}', "is not a worker's record"),
    "an object": ('{"forward_s": {}, "backward_s": 1}', "is not a worker's record"),
    "not UTF-8": (b"\xff", "is not text (UTF-8)"),
    "a negative time": ('{"forward_s": 1, "backward_s": -1}', "no times that can be replayed"),
    "no finite time": ('{"forward_s": 1, "backward_s": NaN}', "no times that can be replayed"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_an_invalid_record_is_a_one_line_error(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as error:
        load(f"replay:{file}", 3, World(), 0)
    assert str(error.value).startswith(f"ps.compute: {file} ") and message in str(error.value)


@pytest.mark.parametrize("how", ["replay", "replay:", "reply:x", ""])
def test_a_value_without_a_file_is_a_one_line_error(how: str) -> None:
    with pytest.raises(UserError, match=f'^ps.compute must be real or replay:FILE, not "{how}"$'):
        load(how, 3, World(), 0)


def test_a_missing_file_is_a_one_line_error() -> None:
    with pytest.raises(UserError, match=r"^ps.compute: nothing.jsonl cannot be read: No such file or directory$"):
        load("replay:nothing.jsonl", 3, World(), 0)

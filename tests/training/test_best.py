"""The best weights by validation: selected once, restored from the checkpoint on every rank."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoint_folders import write_checkpoint
from distdl.core.config import Config
from distdl.core.manifest import STATE
from distdl.optim.ema import EMA
from distdl.runtime.tensors import write_tensors
from distdl.strategies.base import Strategy
from distdl.strategies.single import Single
from distdl.telemetry.clock import Clock
from distdl.training.best import BestWeights
from distdl.training.state import TrainState
from thread_strategies import ddp_of


def state_of(value: float, ema: bool = False) -> TrainState:
    """State of a network with buffers, with all values equal to `value`."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return TrainState(model=model, optimizer=optimizer, ema=EMA(model, 0.5) if ema else None, samples=8)


def best_of(
    state: TrainState,
    folder: Path,
    warn: Callable[[str], None],
    kind: str = "accuracy",
    strategy: Strategy | None = None,
) -> BestWeights:
    strategy = strategy or Single(Config())
    strategy.prepare(state.model, state.optimizer, Clock())
    return BestWeights(state, strategy, kind=kind, folder=folder, warn=warn)


def validated(step: int, accuracy: float, loss: float = 1.0) -> dict[str, Any]:
    return {"epoch": step, "step": step, "accuracy": accuracy, "loss": loss}


@pytest.mark.parametrize(
    ("kind", "values", "improves"),
    [
        ("accuracy", [0.5, 0.6, 0.6, 0.4, 0.7], [True, True, False, False, True]),
        ("loss", [0.5, 0.6, 0.5, 0.4, 0.7], [True, False, False, True, False]),
    ],
)
def test_the_first_of_equal_evaluations_is_the_best(
    tmp_path: Path, kind: str, values: list[float], improves: list[bool]
) -> None:
    state = state_of(0.0)
    best = best_of(state, tmp_path, pytest.fail, kind=kind)
    for step, (value, improved) in enumerate(zip(values, improves, strict=True), start=1):
        current = {"epoch": step, "step": 2 * step, "accuracy": 0.0, "loss": 0.0, kind: value}
        state.metrics["validation"] = current
        assert best.update() is improved
        if improved:
            assert state.best == {"epoch": step, "step": 2 * step, "validation": current}
            expected = dict(state.best["validation"])
        current[kind] = -1.0  # a later evaluation does not change the stored best
        assert state.best["validation"] == expected


def saved(folder: Path, step: int, value: float, accuracy: float, ema: bool = False) -> dict[str, Any]:
    """Write a checkpoint whose weights are all `value`, and their average `value` + 1. Returns its validation."""
    state = state_of(value, ema)
    state.metrics["validation"] = validated(step, accuracy)
    if state.ema:
        for tensor in state.ema.average.values():
            tensor.fill_(value + 1)
    content = {"model": state.model.state_dict(), **state.state_dict()}
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "state", content)
    write_checkpoint(folder, step, accuracy, files={STATE: (folder / "state").read_bytes()})
    return state.metrics["validation"]


def running(state: TrainState) -> dict[str, Any]:
    return {"model": state.model.state_dict(), **state.state_dict()}


def values(state: TrainState) -> set[float]:
    return {value for tensor in state.model.state_dict().values() for value in tensor.reshape(-1).tolist()}


@pytest.mark.parametrize("ema", [False, True])
def test_weights_buffers_and_average_of_the_best_checkpoint_are_restored(tmp_path: Path, ema: bool) -> None:
    validation = saved(tmp_path, 2, 5.0, 0.9, ema)
    saved(tmp_path, 4, 7.0, 0.8, ema)
    state = state_of(1.0, ema)
    if state.ema:
        state.ema.updates = 17
    selected = best_of(state, tmp_path, pytest.fail).restore(running(state))
    assert selected == state.best == {"epoch": 0, "step": 2, "validation": validation}
    assert state.metrics["validation"] == validation
    assert values(state) == {5.0}
    if state.ema:
        assert {float(value) for tensor in state.ema.average.values() for value in tensor.reshape(-1)} == {6.0}
        assert state.ema.updates == 17


@pytest.mark.world_size(2)
def test_every_rank_gets_the_weights_that_rank_0_reads(in_ranks: Callable, tmp_path: Path) -> None:
    """Rank 1 cannot see the run folder."""
    validation = saved(tmp_path, 2, 5.0, 0.9)

    def restore(rank: int) -> tuple[Any, set[float]]:
        state = state_of(float(rank))
        folder = tmp_path if rank == 0 else Path("/nowhere")
        best = best_of(state, folder, pytest.fail, strategy=ddp_of(rank, 2, local_size=1))
        return best.restore(running(state)), values(state)

    expected = {"epoch": 0, "step": 2, "validation": validation}
    assert in_ranks(restore) == [(expected, {5.0})] * 2


def test_without_a_checkpoint_a_warning_states_that_the_last_weights_are_tested(tmp_path: Path) -> None:
    messages: list[str] = []
    state = state_of(1.0)
    best = best_of(state, tmp_path, messages.append)
    assert best.restore(running(state)) is None
    assert state.best is None and values(state) == {1.0}
    state.metrics["validation"] = validated(6, 0.5)
    assert best.restore(running(state)) is None
    assert state.best == {"epoch": 6, "step": 6, "validation": validated(6, 0.5)}
    assert messages == ["no checkpoint has validation metrics: the test uses the weights of the last step"] * 2


def test_a_best_checkpoint_of_another_network_is_a_warning(tmp_path: Path) -> None:
    saved(tmp_path, 2, 5.0, 0.9)
    messages: list[str] = []
    state = state_of(1.0)
    other = {"model": {"0.weight": torch.zeros(3)}, "ema": {}}
    assert best_of(state, tmp_path, messages.append).restore(other) is None
    assert messages[0].startswith("the best checkpoint cannot be read: ") and "is of another network" in messages[0]
    assert values(state) == {1.0}


def test_a_damaged_best_checkpoint_is_replaced_by_the_next_best(tmp_path: Path) -> None:
    saved(tmp_path, 2, 5.0, 0.9)
    saved(tmp_path, 4, 7.0, 0.8)
    saved(tmp_path, 6, 8.0, 0.1)
    (tmp_path / "step-00000002" / STATE).write_bytes(b"x")
    messages: list[str] = []
    state = state_of(1.0)
    selected = best_of(state, tmp_path, messages.append).restore(running(state))
    assert selected and selected["step"] == 4 and values(state) == {7.0}
    assert len(messages) == 1 and "the next best is tried" in messages[0]


def test_a_folder_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    """The other ranks wait for the selection of rank 0."""
    messages: list[str] = []
    state = state_of(1.0)
    assert best_of(state, tmp_path / ("x" * 300), messages.append).restore(running(state)) is None
    assert messages[0] == "the best checkpoint cannot be read: File name too long"

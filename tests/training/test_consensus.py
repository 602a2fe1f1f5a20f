"""Consensus of the ranks: its interval, and the reasons that end a run."""

import itertools
import math
import signal
from collections.abc import Iterator

import pytest
import torch

from distdl.core.config import Config
from distdl.core.errors import Failure
from distdl.strategies.base import Strategy
from distdl.strategies.single import Single
from distdl.strategies.text import ReduceOp
from distdl.training.consensus import Consensus
from distdl.training.nonfinite import NonFiniteGuard
from distdl.training.stop import StopSignal


class TwoRanks(Single):
    """A strategy of two ranks; the second one sends `other`."""

    other: tuple[float, ...] = (0.0, 0.0, -math.inf, -math.inf)
    """Stop flag, seconds per step, and, with reversed signs, first failed step and loss scale."""
    reductions = 0

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        assert op == "max"
        self.reductions += 1
        return torch.maximum(tensor, torch.tensor(self.other, dtype=tensor.dtype))


class Time:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    signal_handlers = StopSignal()
    yield signal_handlers
    signal_handlers.close()


@pytest.fixture
def strategy() -> TwoRanks:
    return TwoRanks(Config())


def consensus_of(strategy: Strategy, stop: StopSignal, time: Time | None = None) -> tuple[Consensus, NonFiniteGuard]:
    guard = NonFiniteGuard(torch.device("cpu"))
    return Consensus(strategy, stop, guard, now=time or Time()), guard


def test_a_run_resumed_at_a_late_step_checks_its_next_step_too(strategy: TwoRanks, stop: StopSignal) -> None:
    """The step time must not be computed from the steps before the resume."""
    consensus, _ = consensus_of(strategy, stop)
    assert consensus.should_check(1_000_000)
    assert not consensus.should_stop(1_000_000)
    assert consensus.should_check(1_000_001)


@pytest.mark.parametrize(("step_s", "slowest_s"), [(0.005, 0.0), (0.0, 0.005), (0.01, 0.002), (1.0, 0.0)])
def test_the_interval_is_measured_by_the_slowest_rank(
    strategy: TwoRanks, stop: StopSignal, step_s: float, slowest_s: float
) -> None:
    strategy.other = (0.0, slowest_s, -math.inf, -math.inf)
    time = Time()
    consensus, _ = consensus_of(strategy, stop, time)
    checked = []
    for step in range(5000, 5300):
        time.now += step_s
        if consensus.should_check(step):
            consensus.should_stop(step)
            checked.append(step)
    steps = max(round(0.25 / max(step_s, slowest_s)), 1)
    distances = {later - earlier for earlier, later in itertools.pairwise(checked[1:])}
    assert distances <= {steps, max(steps - 1, 1)}  # a sum of floats may be just above the interval
    assert strategy.reductions == len(checked)


def test_a_signal_to_any_rank_stops_all_ranks(strategy: TwoRanks, stop: StopSignal) -> None:
    consensus, _ = consensus_of(strategy, stop)
    assert not consensus.should_stop(3)
    strategy.other = (1.0, 0.0, -math.inf, -math.inf)
    assert consensus.should_stop(4)
    assert stop.reason == ""
    strategy.other = TwoRanks.other
    signal.raise_signal(signal.SIGTERM)
    assert consensus.should_stop(5)


@pytest.mark.parametrize(("local_step", "other_step", "named"), [(8, None, 8), (None, 9, 9), (8, 9, 8), (9, 8, 8)])
def test_the_first_non_finite_loss_of_any_rank_ends_all_ranks(
    strategy: TwoRanks, stop: StopSignal, local_step: int | None, other_step: int | None, named: int
) -> None:
    consensus, guard = consensus_of(strategy, stop)
    consensus.check_health()
    if local_step:
        guard.record(torch.tensor(math.nan), local_step)
    if other_step:
        strategy.other = (0.0, 0.0, -float(other_step), -math.inf)
    for check in (consensus.check_health, lambda: consensus.should_stop(10)):
        with pytest.raises(Failure, match=f"the loss of step {named} is not a finite number"):
            check()
    guard.reset()
    strategy.other = TwoRanks.other
    consensus.check_health()


def test_a_collapsed_loss_scale_of_any_rank_ends_all_ranks(strategy: TwoRanks, stop: StopSignal) -> None:
    consensus, _ = consensus_of(strategy, stop)
    strategy.other = (0.0, 0.0, -math.inf, -0.5)
    with pytest.raises(Failure, match=r"the loss scale has fallen to 0\.5"):
        consensus.check_health()

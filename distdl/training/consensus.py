"""Agreement of the ranks: whether to stop, and whether the training of any rank has failed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from distdl.core.errors import Failure
from distdl.strategies.base import Strategy
from distdl.strategies.loss_scale import SMALLEST
from distdl.training.nonfinite import NonFiniteGuard
from distdl.training.stop import StopSignal

INTERVAL_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Decision:
    """State reduced over all ranks, identical on every rank."""

    stop: bool
    """Whether any rank was asked to stop."""
    step_s: float
    """Seconds per step of the slowest rank."""
    failed_step: int | None
    """First step with a non-finite loss on any rank."""
    loss_scale: float
    """Smallest fp16 loss scale of any rank."""

    def raise_failure(self) -> None:
        """Raise a Failure for a non-finite loss or a collapsed loss scale."""
        if self.failed_step is not None:
            raise Failure(
                f"the loss of step {self.failed_step} is not a finite number: the last good checkpoint is kept; lower "
                "optim.lr, add schedule.warmup_epochs, or clip with optim.clip_norm"
            )
        if self.loss_scale < SMALLEST:
            raise Failure(
                f"fp16 gradients overflow at every step: the loss scale has fallen to {self.loss_scale:g}, and the "
                "weights are no longer updated; the last checkpoint is kept: use compute.precision bf16, or lower "
                "optim.lr"
            )


class Consensus:
    """Makes all ranks take the same decision.

    Each check costs an all-reduce, so the ranks check about every `INTERVAL_S` seconds instead of at every step. The
    all-reduce also carries the slowest rank's time per step, from which all ranks compute the step of the next check.
    """

    def __init__(
        self, strategy: Strategy, stop: StopSignal, guard: NonFiniteGuard, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._strategy, self._stop, self._guard, self._now = strategy, stop, guard, now
        self._next_step = 0
        self._last: tuple[int, float] | None = None

    def should_check(self, step: int) -> bool:
        """Whether the ranks check after this step; the same result on every rank, without communication."""
        return step >= self._next_step

    def should_stop(self, step: int) -> bool:
        """Whether to stop after `step`; the same result on every rank.

        Raises:
            Failure: on every rank, if any rank's loss was not finite, or its fp16 loss scale has collapsed.
        """
        now = self._now()
        # A resumed run begins at a late step: the time per step is not known before the second check.
        last_step, last_time = self._last or (step, now - INTERVAL_S)
        if warning := self._strategy.loss_scale.warning():
            self._strategy.warnings.append(warning)
        decision = self._agree(stop=self._stop.is_requested(), step_s=(now - last_time) / max(step - last_step, 1))
        decision.raise_failure()
        self._last = (step, now)
        self._next_step = step + max(int(INTERVAL_S / max(decision.step_s, 1e-6)), 1)
        return decision.stop

    def check_health(self) -> None:
        """Check losses and loss scale only, without an effect on the next `should_stop`.

        Raises:
            Failure: as `should_stop`.
        """
        self._agree(stop=False, step_s=0.0).raise_failure()

    def _agree(self, *, stop: bool, step_s: float) -> Decision:
        first = self._guard.first_step
        # A single all-reduce with "max": values whose minimum is needed are negated.
        values = [float(stop), step_s, -(math.inf if first is None else first), -self._strategy.loss_scale.value()]
        any_stop, slowest_s, minus_first, minus_scale = self._strategy.all_reduce(
            torch.tensor(values, dtype=torch.float64), "max"
        ).tolist()
        return Decision(
            stop=bool(any_stop),
            step_s=slowest_s,
            failed_step=None if math.isinf(minus_first) else -int(minus_first),
            loss_scale=-minus_scale,
        )

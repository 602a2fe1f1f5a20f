"""An orderly stop: a signal or the clock sets a flag, and the ranks agree on the step at which they stop."""

import math
import signal
import time
from types import FrameType

import torch

from distdl.core.errors import Failure
from distdl.runtime.signals import SIGNALS
from distdl.strategies.base import Strategy
from distdl.strategies.loss_scale import SMALLEST

LOOK_EVERY_S = 0.25


class Stop:
    """Whether to stop, as all ranks see it.

    Agreeing costs an all-reduce, so that the ranks do it every quarter of a second, not every step: each agreement also
    carries the slowest rank's time a step, from which all compute the same step for the next one.
    """

    def __init__(self, strategy: Strategy, *, max_time: float) -> None:
        self._strategy = strategy
        self._until = time.monotonic() + max_time if max_time else math.inf
        self.reason = ""
        self.other_weights()
        self._next = 0
        self._last: tuple[int, float] | None = None
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason:
            raise KeyboardInterrupt  # the second Ctrl-C means now
        self.reason = signal.Signals(number).name

    def watch(self, loss: torch.Tensor, step: int) -> None:
        """Remember the first step whose loss was not a number: the run fails at the next agreement."""
        if loss.device.type == "cpu":
            if not math.isfinite(loss.item()):
                self._minus_bad = self._minus_bad.clamp(min=-step)
        else:  # kept on the device: to read it in every step would wait for it
            self._minus_bad = first_nonfinite(self._minus_bad, loss, step)

    def other_weights(self) -> None:
        """What was not a number concerns weights that are not trained any further."""
        self._minus_bad = torch.tensor(-math.inf, device=self._strategy.world.device)

    def due(self, step: int) -> bool:
        """Whether the ranks agree after this step; the same answer on every rank, without communication."""
        return step >= self._next

    def agreed(self, step: int) -> bool:
        """Whether to stop after `step`; the same answer on every rank.

        Raises:
            Failure: on every rank, if any rank's loss was not a number, or its fp16 loss scale has collapsed.
        """
        now = time.monotonic()
        if now > self._until:
            self.reason = self.reason or "max_time"
        # A run that was resumed begins at a late step: no time a step can be told before the second agreement.
        since, then = self._last or (step, now - LOOK_EVERY_S)
        if warning := self._strategy.loss_scale.warning():
            self._strategy.warnings.append(warning)
        flags = [float(bool(self.reason)), (now - then) / max(step - since, 1), *self._health()]
        stop, step_s, *health = self._strategy.all_reduce(torch.tensor(flags, dtype=torch.float64), "max").tolist()
        _refuse(*health)
        self._last = (step, now)
        self._next = step + max(int(LOOK_EVERY_S / max(step_s, 1e-6)), 1)
        return bool(stop)

    def check(self) -> None:
        """Agree on losses and loss scale alone, which does not delay the next `agreed`.

        Raises:
            Failure: on every rank, if any rank's loss was not a number, or its fp16 loss scale has collapsed.
        """
        _refuse(*self._strategy.all_reduce(torch.tensor(self._health(), dtype=torch.float64), "max").tolist())

    def _health(self) -> list[float]:
        """First step with a non-finite loss and the loss scale, both negative: the maximum over ranks is the worst."""
        return [float(self._minus_bad), -self._strategy.loss_scale.value()]

    def close(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def first_nonfinite(minus_first: torch.Tensor, loss: torch.Tensor, step: int) -> torch.Tensor:
    """The negative number of the first step whose loss was not finite, -inf for none, with this step included.

    Negative, so that the maximum over steps and ranks is the first.
    """
    return torch.maximum(minus_first, torch.where(torch.isfinite(loss), -math.inf, -float(step)))


def _refuse(minus_bad: float, minus_scale: float) -> None:
    if minus_bad > -math.inf:
        raise Failure(
            f"the loss of step {-int(minus_bad)} is not a finite number: the last good checkpoint stands; lower "
            "optim.lr, add schedule.warmup_epochs, or clip by optim.clip_norm"
        )
    if -minus_scale < SMALLEST:
        raise Failure(
            f"fp16 gradients overflow at every step: the loss scale has fallen to {-minus_scale:g} and nothing is "
            "learned any more; the last checkpoint stands: use compute.precision bf16, or lower optim.lr"
        )

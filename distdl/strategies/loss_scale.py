"""Loss scaling for fp16, with counters of the skipped steps."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from distdl.core.errors import UserError

SMALLEST = 1.0
"""Scale below which a run fails: gradients that overflow without scaling would overflow at every later step."""
WARN_AFTER = 5
"""Number of consecutive skipped steps that cause a warning. An initial scale that is too large causes fewer."""


class LossScale:
    """A gradient scaler that counts skipped steps.

    A skipped step leaves weights, optimizer state and moving average unchanged. Its samples count as trained, and the
    learning rate follows the schedule. Counters stay on the device, so that only reading them waits for the device.

    Args:
        scaler: a `torch.amp.GradScaler` or an object with its methods; without it the loss is not scaled.
    """

    def __init__(self, device: torch.device, scaler: Any = None) -> None:
        self.scaler = scaler
        self._one = torch.ones((), device=device)
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._in_a_row, self._longest = self._skipped.clone(), self._skipped.clone()

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return self.scaler.scale(loss) if self.scaler else loss

    def update(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter], clip_norm: float) -> bool | torch.Tensor:
        """Unscale and clip the gradients, update the weights, and adapt the scale.

        Returns whether the weights were updated; with a scaler this is a tensor on the device.
        """
        if self.scaler is None:
            if clip_norm:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            return True
        _start_momentum(optimizer)
        with self.counting():
            if clip_norm:
                self.scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            self.scaler.step(optimizer)
            self.scaler.update()
        return self.updated

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Context of a step, which counts as skipped if the scale falls: the scaler lowers it for no other reason."""
        scale_before = self.scale(self._one)
        yield
        skipped = self.scale(self._one) < scale_before
        self._skipped += skipped
        self._in_a_row = (self._in_a_row + 1) * skipped
        self._longest = torch.maximum(self._longest, self._in_a_row)
        self.updated = ~skipped

    def value(self) -> float:
        """The scale; infinite without a scaler. Waits for the device."""
        return self.scale(self._one).item() if self.scaler else math.inf

    def warning(self) -> str | None:
        """Return a warning if many consecutive steps were skipped since the last call. Waits for the device."""
        if self.scaler is None or int(self._longest) < WARN_AFTER:
            return None
        text = (
            f"{int(self._longest)} consecutive steps were skipped because fp16 gradients overflowed "
            f"({int(self._skipped)} steps in total); the loss scale is {self.value():g}"
        )
        self._longest.zero_()
        return text

    def report(self) -> dict[str, float]:
        """Return values for result.json and metrics.jsonl; empty without a scaler. Waits for the device."""
        return {"skipped_steps": int(self._skipped), "loss_scale": self.value()} if self.scaler else {}

    def state_dict(self) -> dict[str, Any]:
        if self.scaler is None:
            return {}
        return self.scaler.state_dict() | {"skipped_steps": int(self._skipped), "in_a_row": int(self._in_a_row)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore scale and counters; a state that was saved with another precision has none."""
        if self.scaler is None or not state:
            return
        if invalid := [name for name, value in state.items() if type(value) not in (int, float)]:
            raise UserError(f"the checkpoint's loss scale is damaged: {invalid[0]} is not a number")
        self.scaler.load_state_dict(state)
        self._skipped.fill_(state.get("skipped_steps", 0))
        self._in_a_row.fill_(state.get("in_a_row", 0))


def _start_momentum(optimizer: Optimizer) -> None:
    # torch's fused SGD allocates momentum at the first step and leaves it uninitialized if that step is skipped (torch
    # 2.15, torch/optim/sgd.py `_fused_sgd`). With zeros the first step has the same result.
    if isinstance(optimizer, torch.optim.SGD) and not optimizer.state:
        for group in optimizer.param_groups:
            if group["momentum"]:
                for parameter in group["params"]:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

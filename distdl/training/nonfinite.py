"""Detection of losses that are not finite, without waiting for the device."""

import math

import torch


class NonFiniteGuard:
    """Remembers the first step of this rank whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget a non-finite loss: the weights were replaced."""
        self._first = torch.tensor(math.inf, device=self._device)

    def record(self, loss: torch.Tensor, step: int) -> None:
        """Check the loss of a step, a scalar on the device."""
        if loss.device.type == "cpu":
            if not math.isfinite(loss.item()):
                self._first.clamp_(max=step)
        else:  # stays on the device: reading it in every step would wait for it
            self._first = earliest(self._first, loss, step)

    @property
    def first_step(self) -> int | None:
        """The first step with a non-finite loss. Reading it waits for the device."""
        first = float(self._first)
        return None if math.isinf(first) else int(first)


def earliest(first: torch.Tensor, loss: torch.Tensor, step: int) -> torch.Tensor:
    """The first step with a non-finite loss, inf for none, with `step` included."""
    return torch.minimum(first, torch.where(torch.isfinite(loss), math.inf, float(step)))

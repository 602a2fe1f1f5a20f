"""One training step: forward, backward, gradient exchange and update."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from distdl.core.config import Config
from distdl.core.contracts import WITHOUT_GRADIENT, ComponentError, described
from distdl.data.dataset import Batch
from distdl.optim import schedules
from distdl.optim.losses import Loss
from distdl.strategies.base import Strategy
from distdl.telemetry.clock import Clock
from distdl.training.nonfinite import NonFiniteGuard
from distdl.training.state import TrainState


class TrainStep:
    """Trains on one batch.

    Args:
        forward: the network as the strategy prepared it.
        schedule: the learning rate by position, as a share of the peak rate.
    """

    def __init__(
        self,
        config: Config,
        strategy: Strategy,
        state: TrainState,
        *,
        forward: nn.Module,
        criterion: Loss,
        schedule: Callable[[float], float],
        autocast: AbstractContextManager[object],
        clock: Clock,
        guard: NonFiniteGuard,
    ) -> None:
        self._config, self._strategy, self._state = config, strategy, state
        self._forward, self._criterion, self._schedule = forward, criterion, schedule
        self._autocast, self._clock, self._guard = autocast, clock, guard
        self._is_first = True

    def run(self, batch: Batch) -> torch.Tensor:
        """Train on a batch. Returns this rank's mean loss, on the device."""
        if self._is_first and not isinstance(batch, Batch):
            raise ComponentError(
                f"data.loader: {self._config.data.loader} yielded {described(batch)}; expected a "
                "distdl.data.dataset.Batch"
            )
        state, world, clock = self._state, self._strategy.world, self._clock
        schedules.apply(state.optimizer, self._schedule(state.position))
        _seed_generators(step_seed(self._config.seed, state.progress.step, world.rank), world.device)
        losses = []
        # All ranks use the same number of micro-batches: with ZeRO stage 3 the forward pass communicates, so every rank
        # must run it equally often.
        smallest = max(batch.total // world.size, 1)
        chunks = micro_batches(batch, min(self._config.optim.accumulate, smallest))
        for index, (images, labels) in enumerate(chunks):
            with self._strategy.micro_batch(last=index == len(chunks) - 1):
                with clock("forward"), self._autocast:
                    logits = self._forward(images)
                    if self._is_first:
                        self._check_logits(logits, len(images))
                    loss = self._criterion(logits, labels)
                    share = batch.weight * len(images) / len(batch.images)
                    if share != 1:
                        loss = loss * share
                with clock("backward"):
                    self._strategy.backward(loss)
            losses.append(loss.detach())
        with clock("update"):
            updated = self._strategy.step()
            if state.ema and updated:  # under fp16 this waits for the device
                state.ema.update(state.model)
        self._is_first = False
        total = sum(losses[1:], start=losses[0])
        self._guard.record(total, state.progress.step + 1)
        return total

    def _check_logits(self, logits: object, count: int) -> None:
        """Refuse a network that outputs something else in training than in evaluation, which `models.build` checks."""
        if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != count:
            raise ComponentError(
                f"model.name: {self._config.model.name} returned {described(logits)} in training; expected logits of "
                f"shape [{count}, classes]"
            )
        if not logits.requires_grad:
            raise ComponentError(f"model.name: {self._config.model.name} {WITHOUT_GRADIENT}")


def micro_batches(batch: Batch, parts: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Split images and labels into at most `parts` micro-batches; their sizes differ by at most one, none is empty."""
    parts = min(parts, len(batch.images))
    return list(zip(batch.images.tensor_split(parts), batch.labels.tensor_split(parts), strict=True))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of dropout in one step of one rank. Derived from the position, so that no generator's state is saved."""
    mixed = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9
    return (mixed + rank * 0x94D049BB133111EB) % 2**63


def _seed_generators(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)

"""Selection of the best weights by a validation metric, and their restoration on all ranks."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from distdl.core import checkpoints
from distdl.core.errors import UserError, reason
from distdl.runtime import tensors
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text
from distdl.training import resumption
from distdl.training.state import TrainState

Warn = Callable[[str], None]


class BestWeights:
    """The best weights of a training.

    Args:
        kind: validation metric that selects the best, accuracy or loss.
        folder: the run's checkpoints.
    """

    def __init__(self, state: TrainState, strategy: Strategy, *, kind: str, folder: Path, warn: Warn) -> None:
        self._state, self._strategy, self._kind, self._folder, self._warn = state, strategy, kind, folder, warn

    def update(self) -> bool:
        """Record the last validation as `state.best` if it is the best so far. Returns whether it is."""
        kind, current, best = self._kind, self._state.metrics["validation"], self._state.best
        if best is not None:
            previous = best["validation"][kind]
            if not (current[kind] < previous if kind == "loss" else current[kind] > previous):
                return False
        self._state.best = _best(current)
        return True

    def restore(self, running: Mapping[str, Any]) -> dict[str, Any] | None:
        """Load the weights of the best checkpoint on every rank; rank 0 selects and broadcasts them.

        Args:
            running: state of the running training, which the checkpoint must match.
        Returns:
            Epoch, step and validation metrics of the weights. None if no checkpoint has validation metrics: the model
            then keeps the weights of the last step.
        """
        selected: dict[str, Any] = {}
        values: dict[str, torch.Tensor] = {}
        if self._strategy.world.rank == 0:
            try:
                selected, values = self._read(running)
            except (UserError, OSError) as error:  # the other ranks wait for the selection
                self._warn(f"the best checkpoint cannot be read: {reason(error)}")
        layout = [[name, str(value.dtype).removeprefix("torch."), [*value.shape]] for name, value in values.items()]
        selected, layout = json.loads(broadcast_text(self._strategy, json.dumps([selected, layout])))
        state = self._state
        if not selected:
            self._warn("no checkpoint has validation metrics: the test uses the weights of the last step")
            state.best = _best(state.metrics["validation"]) if "validation" in state.metrics else None
            return None
        values = self._broadcast(values, layout)
        self._strategy.load_model_state(_section(values, "model."))
        if state.ema:
            state.ema.load_state_dict({"average": _section(values, "average."), "updates": state.ema.updates})
        state.best, state.metrics["validation"] = selected, selected["validation"]
        return selected

    def _read(self, running: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Position and metrics of the best intact checkpoint, and its tensors by prefixed name; empty without one."""
        folder = checkpoints.best_whole(self._folder, self._kind, self._warn)
        if folder is None:
            return {}, {}
        state, progress = tensors.load(folder)
        resumption.check_network(state, running, folder)
        model, average = tensors.network_state(state, folder)
        validation = state["metrics"].get("validation", {})
        selected = {"epoch": progress.epoch, "step": progress.step, "validation": validation}
        named = {f"model.{name}": tensor for name, tensor in model.items()}
        return selected, named | {f"average.{name}": tensor for name, tensor in average.items()}

    def _broadcast(self, values: Mapping[str, torch.Tensor], layout: list[list[Any]]) -> dict[str, torch.Tensor]:
        world, received = self._strategy.world, {}
        for name, kind, shape in layout:
            value = torch.empty(shape, dtype=getattr(torch, kind), device=world.device)
            if world.rank == 0:
                value.copy_(values[name])
            received[name] = self._strategy.broadcast(value)
        return received


def _section(values: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in values.items() if name.startswith(prefix)}


def _best(validation: Mapping[str, Any]) -> dict[str, Any]:
    return {"epoch": validation["epoch"], "step": validation["step"], "validation": dict(validation)}

"""How gradients meet: the one protocol between the trainer and every way of training on many devices."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from distdl.config import Config
from distdl.errors import UserError
from distdl.telemetry.clock import Clock
from distdl.world import World


class Strategy:
    """Base and, as it stands, the strategy of a single process: nothing to exchange.

    Called in this order: setup, prepare, (load_state_dict), then in each step forward through the prepared model,
    `backward` once a micro batch, `step` once; at the end close. Scaling of the loss, accumulation, clipping and the
    optimizer's update belong to a strategy, since some (DeepSpeed, a parameter server) do them elsewhere.
    """

    name = "single"
    sharded = False
    """Whether ranks have state that only they can save; then every rank's `save_shards` is called."""
    replayed = False
    """Whether compute is only waited for: then there is nothing to evaluate, and what is shown says so."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.world = World()
        self.notes: list[str] = []
        """What the person should know; the trainer shows and empties it."""
        self.folder: Path | None = None
        """The run folder, from before `prepare` on: for records that a strategy writes itself."""

    def setup(self) -> World:
        """Find the other processes and the device. Called once, before any tensor is made on the device."""
        from distdl.strategies.device import device_for, pin_cores

        device = device_for(self.config.compute, local_rank=0, local_size=1)
        pin_cores(self.config.compute, device, local_rank=0, local_size=1)
        self.world = World(device=device)
        return self.world

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        """Take the model (on the device, the same weights on every rank) and its optimizer.

        Returns what to call forward on. The strategy times itself by `clock`: phases exchange and update.
        """
        self.model, self.optimizer, self.clock = model, optimizer, clock
        self.scaler = torch.amp.GradScaler(self.world.device.type, enabled=self.config.compute.precision == "fp16")
        return model

    def backward(self, loss: torch.Tensor, last: bool = True) -> None:
        """Add the gradients of one micro batch; `last` says that the step's exchange may go with this one."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Finish the exchange, clip, update the weights and clear the gradients."""
        if self.config.optim.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def all_reduce(self, tensor: torch.Tensor, op: Literal["sum", "max", "min"] = "sum") -> torch.Tensor:
        """The tensor combined over all ranks that train, on every one of them. Small CPU or device tensors."""
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        """The tensor of rank `source` on every rank that trains."""
        return tensor

    def barrier(self) -> None:
        """Wait for every rank that trains."""

    def settle(self) -> None:
        """Bring the same weights to every rank that trains, before they are evaluated or saved."""

    def report(self) -> dict[str, Any]:
        """What this strategy adds to result.json, by key."""
        return {}

    def model_state(self) -> dict[str, torch.Tensor]:
        """The whole network's weights and buffers, for rank 0 to keep; where they are sharded, as last gathered."""
        return self.model.state_dict()

    def load_model_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `model_state` gave; called on every rank with the same state."""
        self.model.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """What rank 0 must keep of the optimizer and of the strategy: tensors, numbers, strings, lists and dicts."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; called on every rank with the same state.

        Raises:
            UserError: if it is of a strategy that keeps its optimizer in another way.
        """
        if "optimizer" not in state:
            raise UserError(
                f"the checkpoint's optimizer is sharded over ranks, which strategy {self.name} cannot take: go on with "
                "the strategy that made it, or start anew from its weights (distdl export, then --model.weights FILE)"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def save_shards(self, folder: Path) -> None:
        """Write what only this rank has (sharded state) into `folder`, as files of its own. Called on every rank."""

    def load_shards(self, folder: Path) -> None:
        """Read back what `save_shards` wrote."""

    def serve(self) -> None:
        """The whole work of a rank whose role is "serve": returns when those that train have closed."""
        raise NotImplementedError(f"strategy {self.name} has no ranks that serve")

    def close(self) -> None:
        """Leave the others in order."""

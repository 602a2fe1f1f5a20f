"""The protocol between the trainer and every strategy, and what the strategies share."""

import json
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from distdl.core import registry
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.runtime import device
from distdl.runtime.launch_env import choose_strategy, launched_ranks
from distdl.runtime.world import World
from distdl.strategies import text
from distdl.strategies.loss_scale import LossScale
from distdl.telemetry.clock import Clock


class Strategy:
    """Base class of the strategies.

    Called in this order: setup, prepare, (load_state_dict), the steps, close. A step is

        for index, (images, labels) in enumerate(chunks):
            with strategy.micro_batch(last=index == len(chunks) - 1):
                strategy.backward(criterion(prepared(images), labels))
        strategy.step()

    Scaling of the loss, accumulation, clipping and the optimizer's update belong to a strategy, since some (DeepSpeed,
    a parameter server) do them elsewhere.
    """

    name: ClassVar[str]
    """Name in the configuration and in result.json."""
    sharded = False
    """Whether ranks have state that only they can save; then every rank's `save_shards` is called."""
    replayed = False
    """Whether the strategy waits instead of computing: then there is nothing to evaluate, and the display states it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.world = World()
        self.loss_scale = LossScale(self.world.device)
        """Loss scale of fp16; replaced in `prepare`, when the device is known."""
        self.warnings: deque[str] = deque()
        """Messages for the user, oldest first; the trainer shows and removes them."""
        self.folder: Path | None = None
        """The run folder, from `open_records` on."""

    def setup(self) -> World:
        """Find the other processes and the device. Called once, before any tensor is made on the device."""
        raise NotImplementedError

    def _agree_on_device(self) -> None:
        """Compare the ranks' devices, on the CPU, before anything is exchanged between GPUs.

        Raises:
            UserError: on every rank, if some have a GPU and others do not, or two have the same one. With
                compute.device auto, ranks that would have to share a GPU all take the CPU instead.
        """
        local = json.dumps(asdict(device.rank_device(self.world.device)))
        places = [device.RankDevice(**json.loads(place)) for place in text.gather_text(self, local)]
        if message := device.mixed_devices(places):
            raise UserError(message)
        if message := device.shared_gpu(places):
            if self.config.compute.device != "auto":
                raise UserError(message)
            self.warnings.append(f"training on the CPU, because {message}")
            device.keep_freed()
            self.world = replace(self.world, device=torch.device("cpu"))

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        """Take the model (on the device) and its optimizer; every rank gets rank 0's parameters and buffers.

        Returns the module to call forward on. The strategy records its phases, exchange and update, with `clock`.
        """
        self.model, self.optimizer, self.clock = model, optimizer, clock
        fp16 = self.config.compute.precision == "fp16"
        self.loss_scale = LossScale(self.world.device, torch.amp.GradScaler(self.world.device.type) if fp16 else None)
        self._share_initial_weights()
        return model

    def open_records(self, folder: Path) -> None:
        """Open the records that the strategy writes. Called on every rank when the run folder is entered."""
        self.folder = folder

    def _share_initial_weights(self) -> None:
        """Copy rank 0's parameters and buffers to every rank.

        Equal seeds are not enough: processors of two generations round the same random numbers differently.
        """
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            value = tensor.detach()
            shared = self.broadcast(value.contiguous())  # a copy if the memory format is channels_last
            if shared.data_ptr() != value.data_ptr():
                value.copy_(shared)

    def micro_batch(self, last: bool) -> AbstractContextManager[None]:
        """Context of one micro-batch's forward and backward.

        Gradients are exchanged once per step, in the micro-batch that is `last`. Ranks may cut their batches into
        different numbers of micro-batches.
        """
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of one micro-batch. Called once inside `micro_batch`."""
        self.loss_scale.scale(loss).backward()

    def step(self) -> bool | torch.Tensor:
        """Finish the exchange, clip, update the weights and clear the gradients.

        Returns whether the weights were updated; they are not if fp16 gradients overflowed. With a loss scale the
        result is a tensor on the device, so that only a reader waits for it.
        """
        updated = self.loss_scale.update(self.optimizer, self.model.parameters(), self.config.optim.clip_norm)
        self.optimizer.zero_grad(set_to_none=True)
        return updated

    def all_reduce(self, tensor: torch.Tensor, op: Literal["sum", "max", "min"] = "sum") -> torch.Tensor:
        """Return the tensor reduced over all ranks that train, on each of them. For small CPU or device tensors."""
        raise NotImplementedError

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        """Return the tensor of rank `source` on every rank that trains."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Wait for every rank that trains."""
        raise NotImplementedError

    def sync_parameters(self) -> None:
        """Give every rank that trains the same weights, before they are evaluated or saved."""

    def report(self) -> dict[str, Any]:
        """Values that this strategy adds to result.json, by key."""
        return self.loss_scale.report()

    def model_state(self) -> dict[str, torch.Tensor]:
        """Weights and buffers of the whole network, for rank 0 to save; if they are sharded, as last gathered."""
        return self.model.state_dict()

    def load_model_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the result of `model_state`; called on every rank with the same state."""
        self.model.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """State of optimizer and strategy that rank 0 saves: tensors, numbers, strings, lists and dicts."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.loss_scale.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`; called on every rank with the same state.

        Raises:
            UserError: if it comes from a strategy that shards its optimizer.
        """
        if "optimizer" not in state:
            raise UserError(
                f"the checkpoint's optimizer is sharded over ranks, which strategy {self.name} cannot load: resume "
                "with the strategy that wrote it, or start from its weights (distdl export, then --model.weights FILE)"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_scale.load_state_dict(state["scaler"])

    def save_shards(self, folder: Path) -> None:
        """Write this rank's sharded state into `folder`, as files of its own. Called on every rank."""

    def load_shards(self, folder: Path) -> None:
        """Read the files of `save_shards`."""

    def serve(self) -> None:
        """Do all the work of a rank whose role is "serve". Returns when the ranks that train have closed."""
        raise NotImplementedError(f"strategy {self.name} has no ranks that serve")

    def close(self) -> None:
        """Disconnect from the other ranks."""


def make(config: Config) -> Strategy:
    """Make the strategy of a configuration, not yet set up.

    Raises:
        UserError: if the strategy is single and several processes were started.
    """
    name = choose_strategy() if config.strategy == "auto" else config.strategy
    ranks = launched_ranks()
    if name == "single" and ranks != 1:
        raise UserError(f"strategy single takes one process, and {ranks} were started: set strategy to ddp or auto")
    return registry.make("strategies", name, config, options=config.options.get("strategy"))

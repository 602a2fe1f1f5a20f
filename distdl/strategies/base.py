"""Interface between the trainer and the strategies, and the code that the strategies share."""

import json
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from distdl.core import factories
from distdl.core.config import Config
from distdl.core.contracts import joined
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

    Loss scaling, gradient accumulation, clipping and the optimizer's update are part of a strategy, because DeepSpeed
    and parameter servers implement them differently.
    """

    name: ClassVar[str]
    """Name of the strategy in the configuration and in result.json."""
    sharded = False
    """Whether each rank has state that only it can save; `save_shards` is then called on every rank."""
    replayed = False
    """Whether the strategy replays recorded compute times instead of computing: there is then nothing to evaluate."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.world = World()
        self.loss_scale = LossScale(self.world.device)
        """Loss scale of fp16; replaced in `prepare`, when the device is known."""
        self.warnings: deque[str] = deque()
        """Messages for the user, oldest first; the trainer shows and removes them."""
        self.folder: Path | None = None
        """The run folder; None before `open_records`."""

    def setup(self) -> World:
        """Connect to the other processes and choose the device. Called once, before any tensor is on the device."""
        raise NotImplementedError

    def _agree_on_device(self) -> None:
        """Compare the devices of all ranks, over the CPU, before anything is exchanged between GPUs.

        Raises:
            UserError: on every rank, if some ranks have a GPU and others do not, or two ranks have the same one. With
                compute.device auto, all ranks use the CPU instead of sharing a GPU.
        """
        local = json.dumps(asdict(device.rank_device(self.world.device)))
        devices = [device.RankDevice(**json.loads(row)) for row in text.gather_text(self, local)]
        if message := device.mixed_devices(devices):
            raise UserError(message)
        if message := device.shared_gpu(devices):
            if self.config.compute.device != "auto":
                raise UserError(message)
            self.warnings.append(f"training on the CPU, because {message}")
            device.keep_freed()
            self.world = replace(self.world, device=torch.device("cpu"))

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        """Prepare the model, which is on the device, and its optimizer. All ranks get rank 0's parameters and buffers.

        Returns the module whose forward is to be called. The strategy records the phases exchange and update in
        `clock`.
        """
        self.model, self.optimizer, self.clock = model, optimizer, clock
        fp16 = self.config.compute.precision == "fp16"
        self.loss_scale = LossScale(self.world.device, torch.amp.GradScaler(self.world.device.type) if fp16 else None)
        self._share_initial_weights()
        return model

    def open_records(self, folder: Path) -> None:
        """Open the files that the strategy writes. Called on every rank when the run folder has been entered."""
        self.folder = folder

    def _share_initial_weights(self) -> None:
        """Copy rank 0's parameters and buffers to every rank.

        Equal seeds are not sufficient: different CPU generations round the same random numbers differently.
        """
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            value = tensor.detach()
            shared = self.broadcast(value.contiguous())  # a copy if the memory format is channels_last
            if shared.data_ptr() != value.data_ptr():
                value.copy_(shared)

    def micro_batch(self, last: bool) -> AbstractContextManager[None]:
        """Context for forward and backward of one micro-batch.

        Gradients are exchanged once per step, in the `last` micro-batch. Ranks may split their batches into different
        numbers of micro-batches.
        """
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of one micro-batch. Called once inside `micro_batch`."""
        self.loss_scale.scale(loss).backward()

    def step(self) -> bool | torch.Tensor:
        """Complete the exchange, clip the gradients, update the weights and clear the gradients.

        Returns whether the weights were updated; they are not if fp16 gradients overflowed. With a loss scale the
        result is a tensor on the device, so that only reading it waits for the device.
        """
        updated = self.loss_scale.update(self.optimizer, self.model.parameters(), self.config.optim.clip_norm)
        self.optimizer.zero_grad(set_to_none=True)
        return updated

    def all_reduce(self, tensor: torch.Tensor, op: text.ReduceOp = "sum") -> torch.Tensor:
        """Return the tensor reduced over all training ranks. For small tensors on the CPU or the device."""
        raise NotImplementedError

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        """Return the tensor of rank `source` on every training rank."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Wait for all training ranks."""
        raise NotImplementedError

    def sync_parameters(self) -> None:
        """Make the weights of all training ranks equal, before they are evaluated or saved."""

    def report(self) -> dict[str, Any]:
        """Return the values that this strategy adds to result.json, by key."""
        return self.loss_scale.report()

    def model_state(self) -> dict[str, torch.Tensor]:
        """Return weights and buffers of the complete network, for rank 0 to save; if sharded, as last gathered."""
        return self.model.state_dict()

    def load_model_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the result of `model_state`; called on every rank with the same state."""
        self.model.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimizer and strategy that rank 0 saves: tensors, numbers, strings, lists and dicts."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.loss_scale.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`; called on every rank with the same state.

        Raises:
            UserError: if the state is from a strategy that shards its optimizer.
        """
        if "optimizer" not in state:
            raise UserError(
                f"the checkpoint's optimizer is sharded over ranks, which strategy {self.name} cannot load: resume "
                "with the strategy that wrote it, or start from its weights (distdl export, then --model.weights FILE)"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_scale.load_state_dict(state["scaler"])

    def save_shards(self, folder: Path) -> None:
        """Write this rank's shards into files in `folder`. Called on every rank."""

    def load_shards(self, folder: Path) -> None:
        """Read the files that `save_shards` wrote. Called on every rank."""

    def serve(self) -> None:
        """Run a rank with the role "serve". Returns when all training ranks have closed."""
        raise NotImplementedError(f"strategy {self.name} has no ranks that serve")

    def close(self) -> None:
        """Disconnect from the other ranks."""


def make(config: Config) -> Strategy:
    """Make the strategy of a configuration, without setting it up.

    Raises:
        UserError: if the strategy is single, but several processes were started.
    """
    name = choose_strategy() if config.strategy == "auto" else config.strategy
    ranks = launched_ranks()
    if name == "single" and ranks != 1:
        raise UserError(f"strategy single needs one process, but {ranks} were started: set strategy to ddp or auto")
    factory = factories.get("strategies", name)
    strategy = factory.make(config, options=config.options.get("strategy"))
    if not isinstance(getattr(strategy, "name", None), str):
        raise factory.fault("has no attribute `name`: the name of the strategy, a text")
    required = ("setup", "all_reduce", "broadcast", "barrier")
    if undefined := [method for method in required if getattr(type(strategy), method) is getattr(Strategy, method)]:
        raise factory.fault(f"does not define {joined(undefined)}: see distdl.strategies.base.Strategy")
    return strategy

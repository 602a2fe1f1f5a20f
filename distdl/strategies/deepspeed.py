"""DeepSpeed's ZeRO: optimizer state, gradients and weights are sharded over the ranks instead of replicated."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distdl.core.errors import UserError, missing
from distdl.core.files import write_atomic
from distdl.runtime.tensors import read_pickled
from distdl.runtime.torch_private import extension_folder
from distdl.runtime.world import World
from distdl.strategies.ddp import DDP
from distdl.strategies.deepspeed_config import scales_itself, settings
from distdl.strategies.loss_scale import LossScale
from distdl.telemetry.clock import Clock

SHARDS, TAG = "deepspeed", "state"


class ZeroLossScale:
    """Dynamic loss scale of a ZeRO optimizer, with the rule and the constants of torch.amp.GradScaler.

    The optimizer unscales, clips, and detects overflow over all ranks' shards.
    """

    INITIAL, FACTOR, GROWTH_INTERVAL = 65536.0, 2.0, 2000

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._good_steps = 0
        self._set(self.INITIAL)

    def _set(self, scale: float) -> None:
        self._scale = scale
        self._optimizer.override_loss_scale(scale)

    def scale(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self._scale

    def update(self) -> None:
        """Adapt the scale to the result of the optimizer's last step."""
        self._good_steps = 0 if self._optimizer.overflow else self._good_steps + 1
        if self._optimizer.overflow:
            self._set(self._scale / self.FACTOR)
        elif self._good_steps == self.GROWTH_INTERVAL:
            self._good_steps = 0
            self._set(self._scale * self.FACTOR)

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale, "good_steps": self._good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._good_steps = int(state.get("good_steps", 0))
        self._set(float(state["scale"]))


class DeepSpeed(DDP):
    """Data-parallel training by a DeepSpeed engine, over the same process group as DDP."""

    name = "deepspeed"
    sharded = True

    def setup(self) -> World:
        if util.find_spec("deepspeed") is None:
            raise missing("DeepSpeed", "deepspeed")
        self._refuse()
        super().setup()
        # DeepSpeed chooses a device type when it is first imported.
        os.environ.setdefault("DS_ACCELERATOR", self.world.device.type)
        import deepspeed

        deepspeed.utils.logger.setLevel("ERROR")
        if self.world.device.type == "cpu":
            # DeepSpeed compiles an all-reduce for inference, which takes minutes, if this table contains it.
            setattr(deepspeed.ops, "__compatible_ops__", {})  # noqa: B010 - the module creates it when it is read
        if self.world.local_rank == 0:
            _announce_compiling()
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self._deepspeed = deepspeed
        self.settings = settings(self.config, self.world)
        return self.world

    def _refuse(self) -> None:
        """Raise a UserError for settings with which ZeRO would silently compute wrong results."""
        config, stage = self.config, self.config.deepspeed.stage
        if stage and config.optim.name in ("lars", "lamb"):
            raise UserError(
                f"optim.name {config.optim.name} needs the norm of each layer, but ZeRO flattens the layers: "
                "add --deepspeed.stage 0"
            )
        if stage == 3 and config.optim.ema:
            raise UserError("optim.ema needs unsharded weights on every rank: use deepspeed.stage 2 or below")
        if config.deepspeed.offload and not stage:
            raise UserError("deepspeed.offload moves sharded state: it needs deepspeed.stage 1 or above")

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        self.model, self.optimizer, self.clock = model, optimizer, clock
        self._gathered: dict[str, torch.Tensor] | None = None
        self._share_initial_weights()
        self.engine, *_ = self._deepspeed.initialize(model=model, optimizer=optimizer, config=self.settings)
        scaler = ZeroLossScale(self.engine.optimizer) if scales_itself(self.config) else None
        self.loss_scale = LossScale(self.world.device, scaler or self.engine.torch_autocast_z0_gradscaler)
        self._files = _Files(self.engine.checkpoint_engine)
        setattr(self.engine, "checkpoint_engine", self._files)  # noqa: B010 - the wrapper is not an engine by type
        self._reduce = self.engine.allreduce_gradients
        self.engine.allreduce_gradients = self._timed_reduce
        return self.engine

    def _timed_reduce(self, *args: Any, **kwargs: Any) -> None:
        # The exchange that remains after backward. ZeRO gathers updated weights in its optimizer: phase "update".
        start = self.clock.now()
        self._reduce(*args, **kwargs)
        self.clock.add_since("exchange", start, out_of="backward")

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        self.engine.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: torch.Tensor) -> None:
        self.engine.backward(loss, scale_wrt_gas=False)  # the loss is already divided by the number of micro-batches

    def step(self) -> bool | torch.Tensor:
        if self.loss_scale.scaler is None:
            self.engine.step()
            return True
        with self.loss_scale.counting():
            self.engine.step()
            if scales_itself(self.config):
                self.loss_scale.scaler.update()
        return self.loss_scale.updated

    def model_state(self) -> dict[str, torch.Tensor]:
        if self.config.deepspeed.stage < 3:
            return self.model.state_dict()
        if self._gathered is None:  # not gathered yet: shapes are sufficient for a comparison
            return self._map_parameters(lambda p: torch.empty(p.ds_shape, dtype=p.dtype, device="meta"))
        return self._gathered

    def _map_parameters(self, function: Callable[[Any], torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the network's state with `function` applied to each (sharded) parameter."""
        parameters, state = dict(self.model.named_parameters()), self.model.state_dict()
        return {name: function(parameters[name]) if name in parameters else state[name] for name in state}

    def _gather(self) -> dict[str, torch.Tensor]:
        """Gather the network on rank 0's host, one parameter at a time. Called on every rank."""

        def gathered(parameter: nn.Parameter) -> torch.Tensor:
            with self._deepspeed.zero.GatheredParameters(parameter):
                return parameter.detach().to("cpu", copy=True) if self.world.rank == 0 else torch.empty(0)

        return self._map_parameters(gathered)

    def load_model_state(self, state: dict[str, torch.Tensor]) -> None:
        if self.config.deepspeed.stage < 3:
            super().load_model_state(state)
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                with self._deepspeed.zero.GatheredParameters(parameter, modifier_rank=0):
                    if self.world.rank == 0:
                        parameter.copy_(state[name])
            for name, buffer in self.model.named_buffers():
                if name in state:
                    buffer.copy_(state[name])

    def state_dict(self) -> dict[str, Any]:
        return {"deepspeed": {"stage": self.config.deepspeed.stage, "world_size": self.world.size}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("deepspeed") != self.state_dict()["deepspeed"]:
            saved = state.get("deepspeed")
            writer = f"stage {saved['stage']} on {saved['world_size']} ranks" if saved else "another strategy"
            raise UserError(
                f"the checkpoint was written by {writer}; ZeRO shards cannot be loaded under another setup: resume "
                "with the same one, or start from its weights (distdl export, then --model.weights FILE)"
            )

    def save_shards(self, folder: Path) -> None:
        if self.config.deepspeed.stage == 3:
            self._gathered = self._gather()
        self.engine.save_checkpoint(
            str(folder / SHARDS), tag=TAG, client_state={"scaler": self.loss_scale.state_dict()}, save_latest=False
        )
        if error := self._files.take_error():
            raise error

    def load_shards(self, folder: Path) -> None:
        path, client = self.engine.load_checkpoint(str(folder / SHARDS), tag=TAG)
        if path is None:
            raise UserError(f"checkpoint {folder} has no shards of DeepSpeed")
        self.loss_scale.load_state_dict((client or {}).get("scaler", {}))


def _announce_compiling() -> None:
    """Print a line before DeepSpeed compiles an extension, which takes minutes without output."""
    from deepspeed.ops.op_builder.builder import OpBuilder

    original = OpBuilder.jit_load

    def jit_load(self: Any, *args: Any, **kwargs: Any) -> Any:
        folder = extension_folder(self.name)
        if not (folder / f"{self.name}.so").exists():
            print(
                f"DeepSpeed compiles {self.name} into {folder}, once per machine; this takes a few minutes", flush=True
            )
        return original(self, *args, **kwargs)

    if original.__module__ != __name__:
        OpBuilder.jit_load = jit_load


class _Files:
    """Writes DeepSpeed's checkpoint files so that they are on disk when `save` returns, and reads them without pickle.

    Delegates everything else to DeepSpeed's checkpoint engine.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def save(self, state_dict: Mapping[str, Any], path: str) -> None:
        # DeepSpeed's ranks wait for each other while saving: if one rank raised here, the others would wait forever.
        try:
            write_atomic(Path(path), lambda sink: torch.save(state_dict, sink))
        except OSError as error:
            self._error = error
        except RuntimeError as error:  # torch's archive writer fails again when it closes the file
            if not isinstance(error.__context__, OSError):
                raise
            self._error = error.__context__

    def take_error(self) -> OSError | None:
        """Return and clear the error of a file that could not be written since the last call."""
        error, self._error = self._error, None
        return error

    def load(self, path: str, map_location: Any = None) -> Any:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        known = [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]
        with torch.serialization.safe_globals(known):
            return read_pickled(Path(path), map_location)

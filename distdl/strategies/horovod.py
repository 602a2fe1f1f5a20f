"""Horovod: gradients are fused and averaged by ring all-reduce in the background, during backward."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distdl.core.config import HorovodConfig
from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.core.opening import check_regular
from distdl.core.regular import read_regular
from distdl.runtime.device import make_world, pin_cores
from distdl.runtime.launch_env import Placement
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.runtime.torch_private import eager_operators
from distdl.runtime.world import World
from distdl.strategies.base import Strategy
from distdl.strategies.text import ReduceOp
from distdl.telemetry.clock import Clock

NOT_YET = 2
"""Value of Horovod's backward_passes_per_step with which the next backward pass does not exchange."""
AUTOTUNE_LOG, TIMELINE = "horovod-autotune.csv", "horovod-timeline.json"


def variables(config: HorovodConfig, autotune_log: Path) -> dict[str, str]:
    """Return the environment variables for Horovod, which it reads when it starts.

    Default values are not set, because autotune does not change a parameter whose variable is set.
    """
    default = HorovodConfig()
    environ: dict[str, str] = {}
    if config.fusion_mb != default.fusion_mb:
        environ["HOROVOD_FUSION_THRESHOLD"] = str(int(config.fusion_mb * 2**20))
    if config.cycle_ms != default.cycle_ms:
        environ["HOROVOD_CYCLE_TIME"] = str(config.cycle_ms)
    if config.hierarchical:
        environ["HOROVOD_HIERARCHICAL_ALLREDUCE"] = "1"
    if config.autotune:
        environ |= {"HOROVOD_AUTOTUNE": "1", "HOROVOD_AUTOTUNE_LOG": str(autotune_log)}
    if config.timeline:
        environ["HOROVOD_TIMELINE"] = "DYNAMIC"  # `open_records` starts the timeline in the run folder
    return environ


class Horovod(Strategy):
    """Data-parallel training over Horovod, started by horovodrun or mpirun."""

    name = "horovod"

    def setup(self) -> World:
        try:
            import horovod.torch as hvd
        except ImportError:
            raise UserError(
                "Horovod is not installed; build it for this PyTorch with: "
                "pip install $(containers/horovod/build.sh $(which python) | tail -n 1)"
            ) from None
        self._hvd = hvd
        self._scratch = Path(tempfile.mkdtemp(prefix="distdl-horovod-"))
        for name, value in variables(self.config.horovod, self._scratch / AUTOTUNE_LOG).items():
            os.environ.setdefault(name, value)  # options of horovodrun take precedence
        hvd.init()
        self._refuse()
        placement = Placement(
            rank=hvd.rank(), size=hvd.size(), local_rank=hvd.local_rank(), local_size=hvd.local_size()
        )
        self.world = make_world(self.config.compute, placement, self.warnings.append)
        self._agree_on_device()
        pin_cores(self.config.compute, self.world)
        return self.world

    def _refuse(self) -> None:
        """Raise a UserError for settings that this build of Horovod, or its launcher, does not support."""
        config, hvd = self.config.horovod, self._hvd
        if config.hierarchical and not (hvd.mpi_enabled() or hvd.nccl_built()):
            raise UserError(
                "horovod.hierarchical needs MPI or NCCL, but this job uses gloo: start it with horovodrun --mpi"
            )
        if not config.adasum:
            return
        if not hvd.mpi_enabled():
            raise UserError("horovod.adasum needs MPI, but this job uses gloo: start it with horovodrun --mpi")
        if hvd.size() & (hvd.size() - 1):
            raise UserError(f"horovod.adasum needs a power-of-two number of ranks, got {hvd.size()}")
        if self.config.optim.clip_norm or self.config.compute.precision == "fp16":
            raise UserError(
                "horovod.adasum combines updates instead of gradients: it cannot be used with optim.clip_norm or fp16"
            )

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        super().prepare(model, optimizer, clock)
        hvd, config = self._hvd, self.config.horovod
        self._every = config.backward_passes_per_step
        self._accumulated_steps = 0  # steps whose gradients are not yet exchanged
        self.sharded = self._every > 1
        with eager_operators():  # without it, the constructor of an optimizer imports torch's compiler
            self._exchange = hvd.DistributedOptimizer(
                optimizer,
                named_parameters=model.named_parameters(),
                compression=hvd.Compression.fp16 if config.compress == "fp16" else hvd.Compression.none,
                backward_passes_per_step=NOT_YET,
                op=hvd.Adasum if config.adasum else hvd.Average,
            )
        self._share_state()
        return model

    def open_records(self, folder: Path) -> None:
        super().open_records(folder)
        if self.config.horovod.timeline:
            check_regular(folder / TIMELINE)
            self._hvd.start_timeline(str(folder / TIMELINE), mark_cycles=True)

    def _share_state(self) -> None:
        # Horovod's optimizer is a second one for the same parameters. It shares the state of the first, which schedule
        # and checkpoints use.
        self._exchange.state, self._exchange.param_groups = self.optimizer.state, self.optimizer.param_groups

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        # Horovod's hooks exchange a gradient after this many backward passes.
        exchanges = last and self._accumulated_steps == self._every - 1
        self._exchange.set_backward_passes_per_step(1 if exchanges else NOT_YET)
        yield

    def backward(self, loss: torch.Tensor) -> None:
        super().backward(loss if self._every == 1 else loss / self._every)

    def step(self) -> bool | torch.Tensor:
        self._accumulated_steps += 1
        if self._accumulated_steps < self._every:
            return False
        self._accumulated_steps = 0
        start = self.clock.now()
        if self.config.horovod.adasum:
            # Each rank has already updated its parameters during backward; Horovod combines the updates.
            self._exchange.step()
            self.clock.add_since("exchange", start, out_of="update")
            self.optimizer.zero_grad(set_to_none=True)
            return True
        self._exchange.synchronize()
        self.clock.add_since("exchange", start, out_of="update")
        return super().step()

    # A fixed name per operation: automatic names contain a counter, which differs in a process that joined later.

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        ops = {"sum": self._hvd.Sum, "max": self._hvd.Max, "min": self._hvd.Min}
        self._hvd.allreduce_(tensor, op=ops[op], name=f"distdl.{op}")
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        self._hvd.broadcast_(tensor, source, name="distdl.broadcast")
        return tensor

    def barrier(self) -> None:
        self.all_reduce(torch.zeros(1))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"held": self._accumulated_steps, "held_by": self.world.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._share_state()
        # Gradients accumulated with another world size are dropped: they belong to batches of another size.
        held = int(state.get("held", 0)) if state.get("held_by") == self.world.size else 0
        self._accumulated_steps = held if held < self._every else 0

    def save_shards(self, folder: Path) -> None:
        if self._accumulated_steps:
            grads = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
            write_tensors(folder / f"shard-{self.world.rank}.pt", grads)

    def load_shards(self, folder: Path) -> None:
        if not self._accumulated_steps:
            return
        file = folder / f"shard-{self.world.rank}.pt"
        grads = read_tensors(file, self.world.device)
        for name, parameter in self.model.named_parameters():
            if name not in grads:
                continue
            grad = grads[name]
            if grad is not None and (not isinstance(grad, torch.Tensor) or grad.shape != parameter.shape):
                raise UserError(f"{file} does not contain the gradients of this network: {name} differs")
            parameter.grad = grad

    def close(self) -> None:
        if not hasattr(self, "_hvd"):
            return
        self._hvd.shutdown()
        log = self._scratch / AUTOTUNE_LOG
        if self.folder and log.exists():
            write_atomic(self.folder / AUTOTUNE_LOG, lambda sink: sink.write(read_regular(log)))
        shutil.rmtree(self._scratch, ignore_errors=True)

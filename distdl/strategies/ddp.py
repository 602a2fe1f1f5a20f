"""torch's DistributedDataParallel: every rank has the complete network; gradients are averaged during backward."""

import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from distdl.core.errors import reading
from distdl.runtime.device import backend, make_world, pin_cores
from distdl.runtime.launch_env import launched
from distdl.runtime.rendezvous import init_process_group
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.runtime.world import World
from distdl.strategies import shared_memory as shared
from distdl.strategies.base import Strategy
from distdl.strategies.comm_hooks import AllAtOnce, ExposedExchange, Hook
from distdl.strategies.powersgd import PowerSGD
from distdl.strategies.text import ReduceOp
from distdl.telemetry.clock import Clock

_OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}


class DDP(Strategy):
    """Data-parallel training over gloo (CPU) or NCCL (GPU), started by any launcher of `runtime.mpi_slurm`."""

    name = "ddp"

    def setup(self) -> World:
        self.world = make_world(self.config.compute, launched(self.name), self.warnings.append)
        self._store = init_process_group(
            backend=backend(self.world.device),
            timeout=timedelta(seconds=self.config.ddp.timeout_s),
            warn=self.warnings.append,
        )
        self._agree_on_device()
        self._transport = "nccl" if self.world.device.type == "cuda" else "gloo"
        pin_cores(self.config.compute, self.world)
        return self.world

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        super().prepare(model, optimizer, clock)
        # The gradient of a convolution with one channel may have NHWC strides and its weight NCHW strides: the memory
        # layout is the same, but DDP warns and copies.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        self._exposed = ExposedExchange(clock)
        self._parallel = DistributedDataParallel(
            model,
            device_ids=[self.world.device] if self.world.device.type == "cuda" else None,
            bucket_cap_mb=self.config.ddp.bucket_mb,
            gradient_as_bucket_view=True,
            # Rank 0's buffers are evaluated and saved; the trainer broadcasts them when needed.
            **_without_buffer_exchange(),
        )
        self._power, hook = self._hook()
        self._parallel.register_comm_hook(self._power, self._exposed.around(hook))
        return self._parallel

    def _hook(self) -> tuple[PowerSGD | None, Hook]:
        compress = self.config.ddp.compress
        if compress == "powersgd":
            self.sharded = True  # each rank keeps its own error feedback
            hook = PowerSGD(self.model, self.config.ddp.powersgd_rank)
            return hook, hook
        if compress == "none" and (memory := self._memory()) is not None:
            self._transport = "shared memory"
            return None, AllAtOnce(memory)
        hooks = {
            "none": default_hooks.allreduce_hook,
            "fp16": default_hooks.fp16_compress_hook,
            "bf16": default_hooks.bf16_compress_hook,
        }
        return None, hooks[compress]

    def _memory(self) -> shared.SharedMemory | None:
        world = self.world
        if world.device.type != "cpu" or world.size == 1 or world.local_size < world.size:
            return None
        gradients = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return shared.join(self, shared.bytes_for(gradients))

    def report(self) -> dict[str, Any]:
        return super().report() | {"transport": self._transport}

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        # The context includes forward, because DDP decides in forward whether backward will exchange.
        with nullcontext() if last else self._parallel.no_sync():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        super().backward(loss)
        self._exposed.end()

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        dist.all_reduce(tensor, op=_OPS[op])
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        dist.broadcast(tensor, source)
        return tensor

    def barrier(self) -> None:
        # Over the CPU on every device: NCCL's barrier would have to guess this rank's GPU.
        dist.all_reduce(torch.zeros(1))

    def save_shards(self, folder: Path) -> None:
        if self._power is None:
            return
        write_tensors(folder / f"shard-{self.world.rank}.pt", self._power.state_dict())

    def load_shards(self, folder: Path) -> None:
        file = folder / f"shard-{self.world.rank}.pt"
        if self._power is None or not file.exists():  # another world size: error feedback starts at zero
            return
        state = read_tensors(file, self.world.device)
        with reading(file, "PowerSGD's state"):
            fits = self._power.load_state_dict(state)
        if not fits:
            self.warnings.append(
                f"{file} is of another version, network or rank: PowerSGD's error feedback starts at zero"
            )

    def close(self) -> None:
        # Not after an error: closing the connections would make the other ranks fail too, and the launcher would end
        # this rank before it has printed its error.
        if dist.is_initialized() and sys.exception() is None:
            dist.destroy_process_group()


def _without_buffer_exchange() -> dict[str, Any]:
    """Argument that disables DDP's exchange of buffers in forward; torch renamed it in 2.15."""
    arguments = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in arguments else "broadcast_buffers": False}

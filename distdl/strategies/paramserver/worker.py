"""Strategy `ps`: parameter servers keep the parameters, workers train with them, and each part of a step is timed.

Its purpose is measurement: push, wait and pull are measured on processes that transfer every byte. A duration is always
measured by the clock of one host.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from distdl.core.errors import Failure, UserError
from distdl.runtime.device import make_world, pin_cores
from distdl.runtime.launch_env import launched
from distdl.runtime.rendezvous import init_process_group
from distdl.runtime.signals import SIGNALS
from distdl.runtime.world import World
from distdl.strategies import replay
from distdl.strategies.base import Strategy
from distdl.strategies.paramserver.collectives import ServerCollectives
from distdl.strategies.paramserver.exchange import Exchange
from distdl.strategies.paramserver.folders import Folders
from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.overlap import OverlapPusher
from distdl.strategies.paramserver.partition import ASSIGNMENTS, balance
from distdl.strategies.paramserver.protocol import MessageType, Peer, exchange_names
from distdl.strategies.paramserver.requests import set_parameters, use_folder
from distdl.strategies.paramserver.server import ELEMENTWISE, Server
from distdl.strategies.paramserver.step_records import ComputeTimes, StepRecords
from distdl.strategies.text import ReduceOp
from distdl.telemetry.clock import Clock

RECORDS = "ps"
"""Subfolder of a run folder in which each worker and server records its steps."""


class Worker(Strategy):
    """A rank of a parameter-server training. A server rank runs a `Server`; all others are workers."""

    name = "ps"
    sharded = True

    def setup(self) -> World:
        config, placement = self.config.ps, launched(self.name)
        rank, size = placement.rank, placement.size
        workers = size - config.servers
        self._check(workers, size)
        trains = rank < workers
        # A server is idle while workers compute, so only workers share the cores and GPUs of a host.
        local_workers = max(min(placement.local_size, workers - (rank - placement.local_rank)), 1)
        placement = replace(placement, size=workers, local_size=local_workers)
        if trains:
            world = make_world(self.config.compute, placement, self.warnings.append)
        else:
            world = World(**vars(replace(placement, rank=rank - workers)), role="serve")
            torch.set_num_threads(self.config.compute.threads or 1)
        # Each wait has a separate timeout.
        self._store = init_process_group("gloo", timedelta(days=7), self.warnings.append)
        role = f"worker {rank}" if trains else f"server {rank - workers}"
        names = exchange_names(f"{role} (rank {rank}, {socket.gethostname()}, pid {os.getpid()})")
        others = range(workers, size) if trains else range(workers)
        self.peers = [Peer(other, names[other], config.timeout_s) for other in others]
        self.wire = torch.bfloat16 if config.wire == "bf16" else torch.float32
        self.world = world
        if trains:
            self._collectives = ServerCollectives(self.peers[0], rank)
            self._agree_on_device()
            pin_cores(self.config.compute, self.world)
        return self.world

    def _check(self, workers: int, size: int) -> None:
        config = self.config
        if workers < 1:
            raise UserError(f"ps.servers is {config.ps.servers} of {size} ranks: at least one rank must train")
        if config.optim.name not in ELEMENTWISE:
            raise UserError(
                f"strategy ps flattens layers, but optim.name {config.optim.name} needs their norms: use sgd or adam"
            )
        if config.optim.clip_norm:
            raise UserError("optim.clip_norm needs the complete gradient, but each server has a part: set it to 0")
        if config.compute.precision == "fp16":
            raise UserError("strategy ps has no gradient scaler for fp16: use compute.precision bf16")
        if config.ps.tolerate_worker_loss and config.ps.mode == "sync":
            raise UserError("ps.tolerate_worker_loss is for async and ssp: a sync step needs every worker")

    def serve(self) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the workers stop at the same step, and then send DONE
        Server(self.config, self.world.rank, self.peers, self.wire).serve()

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        super().prepare(model, optimizer, clock)
        members = [(group, parameter) for group in optimizer.param_groups for parameter in group["params"]]
        self._groups, parameters = [group for group, _ in members], [parameter for _, parameter in members]
        assign = ASSIGNMENTS[self.config.ps.assign]
        self.assignment = assign([parameter.numel() for parameter in parameters], len(self.peers))
        self.layout = Layout(parameters, self.assignment)
        self._exchange = Exchange(self.peers, self.layout, self.wire)
        self.records = StepRecords()
        self._step, self._forward_s, self._backward_s = 0, 0.0, 0.0
        self._previous = ComputeTimes()
        self._set_parameters()
        self._overlap = OverlapPusher(parameters, self.assignment, self._push) if self.config.ps.overlap else None
        self.replayed = self.config.ps.compute != "real"
        if not self.replayed:
            return model
        classes = [module for module in model.modules() if isinstance(module, nn.Linear)][-1].out_features
        self.warnings.append(
            f"{self.config.ps.compute}: compute times are replayed; gradients are exchanged, but nothing is trained"
        )
        self._replay = replay.load(self.config.ps.compute, classes, self.world, self.config.seed)
        return self._replay.to(self.world.device)

    def open_records(self, folder: Path) -> None:
        super().open_records(folder)
        records = folder / RECORDS
        records.mkdir(parents=True, exist_ok=True)  # on every host: the run folder may not be shared
        if self.world.rank == 0 and not self._use_folder(MessageType.OPEN, records, self._step):
            raise Failure(f"a server could not open its records in {records}: see its error message")
        self.barrier()
        self.records.open(records / f"worker-{self.world.rank}.jsonl", self._step)

    def _use_folder(self, message: MessageType, folder: Path, *numbers: float) -> bool:
        return use_folder(self.peers, message, Folders(self.config).name(folder), *numbers)

    def _set_parameters(self) -> None:
        self.layout.gather_values()
        if self.world.rank == 0:
            set_parameters(self.peers, self.layout, self.assignment, self._groups)
        self.barrier()

    # A step.

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        if self._overlap:
            self._overlap.last_micro_batch = last
        yield

    def backward(self, loss: torch.Tensor) -> None:
        start = time.perf_counter()
        if self.replayed:
            self._replay.backward()
        else:
            loss.backward()
        self._backward_s += time.perf_counter() - start

    def _push(self, server: int) -> None:
        self._exchange.push(server, self._step + 1, self._rate_factor(), self._previous.total_s)

    def step(self) -> bool:
        start = self.clock.now()
        forward_s = self.clock.read()["forward"]
        compute = ComputeTimes(forward_s=forward_s - self._forward_s, backward_s=self._backward_s)
        exchange = self._exchange.finish(self._step + 1, self._rate_factor(), self._previous.total_s)
        self.clock.add_since("exchange", start, out_of="update")
        self.layout.clear_gradients()
        self._step += 1
        self._forward_s, self._backward_s, self._previous = forward_s, 0.0, compute
        straggler = self.records.add(self._step, compute, exchange, self.replayed)
        if straggler is not None:
            self.warnings.append(f"worker {straggler} is a straggler: its compute time is an outlier among the workers")
        return True

    def _rate_factor(self) -> float:
        """Ratio of the learning rate to its peak, by which the servers scale the learning rates of their groups."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["peak_lr"] if group["peak_lr"] else 0.0

    def sync_parameters(self) -> None:
        # Asynchronous workers have different versions of the parameters: all pull the same version.
        if self.config.ps.mode != "sync":
            self.barrier()
            self._exchange.pull()

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        return self._collectives.all_reduce(tensor, op)

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        return self._collectives.broadcast(tensor, source)

    def barrier(self) -> None:
        self._collectives.barrier()

    # State: rank 0 saves the network, each server its optimizer.

    def load_model_state(self, state: dict[str, torch.Tensor]) -> None:
        super().load_model_state(state)
        self._set_parameters()

    def state_dict(self) -> dict[str, Any]:
        return {"ps": {**self._placement(), "step": self._step}}

    def _placement(self) -> dict[str, Any]:
        """Settings that determine the position of each parameter in the servers' buffers."""
        config = self.config
        return {
            "servers": len(self.peers),
            "assign": config.ps.assign,
            "channels_last": config.compute.channels_last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        placement = self._placement()
        saved = placement | {"servers": None} | state.get("ps", {})  # older versions do not save all of it
        if {name: saved[name] for name in placement} != placement:
            raise UserError(
                "the checkpoint's optimizer state is divided among servers in another way than in this run: resume "
                "with the same strategy ps, ps.servers, ps.assign and compute.channels_last; the checkpoint has "
                f"{state.get('ps', 'none')}"
            )
        self._step = int(state["ps"]["step"])

    def save_shards(self, folder: Path) -> None:
        if self.world.rank == 0 and not self._use_folder(MessageType.SAVE, folder):
            raise Failure(f"a server could not save its part in {folder}: see its error message")

    def load_shards(self, folder: Path) -> None:
        failed = torch.zeros(1)
        if self.world.rank == 0 and not self._use_folder(MessageType.LOAD, folder):
            failed += 1
        if self.all_reduce(failed).item():
            raise UserError(f"a server could not load its part of {folder}: see its error message")

    def report(self) -> dict[str, Any]:
        element_bytes = torch.finfo(self.wire).bits // 8
        return {
            "ps": {
                "mode": self.config.ps.mode,
                "workers": self.world.size,
                "servers": balance(self.assignment, element_bytes),
                "replayed": self.replayed,
                **self.records.summary(),
            }
        }

    def close(self) -> None:
        if not dist.is_initialized() or sys.exception() is not None:
            return  # after a failure the other processes detect that this one ends
        if self.world.role == "train" and hasattr(self, "records"):
            for peer in self.peers:
                peer.finish(peer.send_header(MessageType.DONE))
            self.records.close()
        dist.destroy_process_group()

"""Strategy `ps`: some ranks keep the parameters, the others train against them, and every step's parts are timed.

Its purpose is to measure: what a push, a wait and a pull took is what happened between processes that moved every byte.
Durations are always differences of one host's clock.
"""

import json
import os
import signal
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Literal

import torch
import torch.distributed as dist
from torch import nn

from distdl.core.errors import Failure, UserError
from distdl.core.files import reopen_rows
from distdl.runtime.device import make_world, pin_cores
from distdl.runtime.launch_env import launched
from distdl.runtime.signals import SIGNALS
from distdl.runtime.world import World
from distdl.strategies import replay
from distdl.strategies.base import Strategy
from distdl.strategies.paramserver.exchange import Exchange, Parts, answer
from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.partition import ASSIGNMENTS, balance
from distdl.strategies.paramserver.protocol import REDUCTIONS, Command, Peer, exchange_names
from distdl.strategies.paramserver.server import ELEMENTWISE, Server
from distdl.strategies.rendezvous import init_process_group
from distdl.strategies.text import encode
from distdl.telemetry.clock import Clock

RECORDS = "ps"
"""Folder of a run folder in which each worker and server records its steps."""
FLUSH_S = 0.5
WARM_STEPS = 3
"""Steps that are nobody's ordinary step: connections and pages are new."""


class ParameterServer(Strategy):
    """A worker's side; a rank that serves hands over to `Server`."""

    name = "ps"
    sharded = True

    def setup(self) -> World:
        config = self.config.ps
        placement = launched(self.name)
        rank, size = placement.rank, placement.size
        workers = size - config.servers
        self._check(workers, size)
        trains = rank < workers
        # A server rests while the workers compute: cores and GPUs are divided among the workers of the host alone.
        local_workers = max(min(placement.local_size, workers - (rank - placement.local_rank)), 1)
        placement = replace(placement, size=workers, local_size=local_workers)
        if trains:
            world = make_world(self.config.compute, placement, self.warnings.append)
        else:
            world = World(**vars(replace(placement, rank=rank - workers)), role="serve")
            torch.set_num_threads(self.config.compute.threads or 1)
        init_process_group("gloo", timeout=timedelta(days=7))  # every wait has a limit of its own
        role = f"worker {rank}" if trains else f"server {rank - workers}"
        names = exchange_names(f"{role} (rank {rank}, {socket.gethostname()}, pid {os.getpid()})")
        others = range(workers, size) if trains else range(workers)
        self.peers = [Peer(other, names[other], config.timeout_s) for other in others]
        self.wire = torch.bfloat16 if config.wire == "bf16" else torch.float32
        self.world = world
        if trains:
            self._agree_on_device()
            pin_cores(self.config.compute, self.world)
        return self.world

    def _check(self, workers: int, size: int) -> None:
        config = self.config
        if workers < 1:
            raise UserError(f"ps.servers is {config.ps.servers} of {size} ranks: at least one must be left to train")
        if config.optim.name not in ELEMENTWISE:
            raise UserError(
                f"strategy ps keeps parameters flat, and {config.optim.name} needs layers: take sgd or adam"
            )
        if config.optim.clip_norm:
            raise UserError("optim.clip_norm needs the whole gradient, of which each server has a part: set it to 0")
        if config.compute.precision == "fp16":
            raise UserError("strategy ps has no gradient scaler for fp16: take compute.precision bf16")
        if config.ps.survive and config.ps.mode == "sync":
            raise UserError("ps.survive is for async and ssp: a sync step needs every worker")

    def serve(self) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # who trains stops in order, and then says so
        Server(self.config, self.world.rank, self.peers, self.wire).serve()

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, clock: Clock) -> nn.Module:
        super().prepare(model, optimizer, clock)
        members = [(group, parameter) for group in optimizer.param_groups for parameter in group["params"]]
        self._groups = [group for group, _ in members]
        parameters = [parameter for _, parameter in members]
        assign = ASSIGNMENTS[self.config.ps.assign]
        self.assignment = assign([parameter.numel() for parameter in parameters], len(self.peers))
        self.layout = Layout(parameters, self.assignment)
        self._exchange = Exchange(self.peers, self.layout, self.wire)
        self._step, self._compute_s, self._backward_s, self._forward_s = 0, 0.0, 0.0, 0.0
        self._parts: list[Parts] = []
        self._steps_s: list[float] = []
        self._ended: float | None = None
        self._stragglers: Counter[int] = Counter()
        self._record: IO[str] | None = None
        self._flushed = time.monotonic()
        self._set_values()
        if self.config.ps.overlap:
            self._push_from_backward(parameters)
        self.replayed = self.config.ps.compute != "real"
        if not self.replayed:
            return model
        classes = [module for module in model.modules() if hasattr(module, "out_features")][-1].out_features
        self.warnings.append(f"{self.config.ps.compute}: compute is waited for, not done; nothing is learnt, only sent")
        self._replay = replay.load(self.config.ps.compute, classes, self.world, self.config.seed)
        return self._replay.to(self.world.device)

    def open_records(self, folder: Path) -> None:
        super().open_records(folder)
        records = folder / RECORDS
        records.mkdir(parents=True, exist_ok=True)  # on every host: the run folder need not be shared
        if self.world.rank == 0:
            self._tell(Command.OPEN, records, self._step)
        self.barrier()
        self._record = reopen_rows(records / f"worker-{self.world.rank}.jsonl", self._step)

    def _set_values(self) -> None:
        """Worker 0 gives each server its parameters, and the rates and penalties of the groups in which they lie."""
        self.layout.gather_values()
        if self.world.rank == 0:
            for server, peer in enumerate(self.peers):
                rows: list[list[float]] = []
                for piece in self.assignment[server]:
                    group = self._groups[piece.tensor]
                    setting = [group["peak_lr"], group["weight_decay"]]
                    if rows and rows[-1][1:] == setting:
                        rows[-1][0] += piece.size
                    else:
                        rows.append([piece.size, *setting])
                groups = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
                values = self.layout.values[server].cpu()
                header = peer.send_header(Command.SET, len(values), len(groups))
                peer.finish(header, peer.send(groups), peer.send(values))
                answer(peer, Command.SET)
        self.barrier()

    def _push_from_backward(self, parameters: list[nn.Parameter]) -> None:
        """Push a server's part as soon as the last of its gradients is there."""
        holders: dict[int, set[int]] = {}
        for server, pieces in enumerate(self.assignment):
            for piece in pieces:
                holders.setdefault(piece.tensor, set()).add(server)
        whole = [len({piece.tensor for piece in pieces}) for pieces in self.assignment]
        self._missing = list(whole)

        def ready(tensor: int) -> None:
            if not self._last:
                return
            for server in holders[tensor]:
                self._missing[server] -= 1
                if not self._missing[server]:
                    self._missing[server] = whole[server]
                    self._exchange.push(server, self._step + 1, self._factor(), self._compute_s)

        for tensor, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(lambda _, tensor=tensor: ready(tensor))

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        self._last = last
        yield

    def backward(self, loss: torch.Tensor) -> None:
        start = time.perf_counter()
        if self.replayed:
            self._replay.backward()
        else:
            loss.backward()
        self._backward_s += time.perf_counter() - start

    def step(self) -> bool:
        moment = self.clock.now()
        forward_s = self.clock.read()["forward"]
        own = {"forward_s": forward_s - self._forward_s, "backward_s": self._backward_s}
        parts = self._exchange.finish(self._step + 1, self._factor(), self._compute_s)
        self.clock.since("exchange", moment, out_of="update")
        self.layout.clear_gradients()
        self._step += 1
        self._forward_s, self._backward_s, self._compute_s = forward_s, 0.0, sum(own.values())
        self._parts.append(parts)
        now = time.perf_counter()
        if self._ended is not None:
            self._steps_s.append(now - self._ended)
        self._ended = now
        if parts.straggler >= 0:
            if parts.straggler not in self._stragglers:
                self.warnings.append(
                    f"worker {parts.straggler} is a straggler: it computes longer than the others' spread"
                )
            self._stragglers[parts.straggler] += 1
        self._write({"step": self._step, **own, **asdict(parts), "replayed": self.replayed})
        return True

    def _factor(self) -> float:
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["peak_lr"] if group["peak_lr"] else 0.0

    def _write(self, row: dict[str, Any]) -> None:
        if self._record is not None:
            self._record.write(json.dumps(row) + "\n")
            if time.monotonic() - self._flushed > FLUSH_S:
                self._record.flush()
                self._flushed = time.monotonic()

    def sync_parameters(self) -> None:
        # Asynchronous workers each compute on parameters of their own age: all take the same before they are shown.
        if self.config.ps.mode != "sync":
            self.barrier()
            self._exchange.pull()

    # Collectives of the workers go by way of server 0: they hold when a worker is gone.

    def all_reduce(self, tensor: torch.Tensor, op: Literal["sum", "max", "min"] = "sum") -> torch.Tensor:
        peer, data = self.peers[0], tensor.detach().reshape(-1).to("cpu", torch.float64)
        header = peer.send_header(Command.REDUCE, list(REDUCTIONS).index(op), data.numel())
        peer.finish(header, peer.send(data))
        answer(peer, Command.REDUCE)
        peer.finish(peer.receive(data))
        tensor.copy_(data.reshape(tensor.shape).to(tensor.dtype))
        return tensor

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        if self.world.rank != source:
            tensor.zero_()
        return self.all_reduce(tensor)

    def barrier(self) -> None:
        self.all_reduce(torch.zeros(1))

    # State: the network is rank 0's to save, the optimizers are the servers'.

    def load_model_state(self, state: dict[str, torch.Tensor]) -> None:
        super().load_model_state(state)
        self._set_values()

    def state_dict(self) -> dict[str, Any]:
        return {"ps": {**self._placement(), "step": self._step}}

    def _placement(self) -> dict[str, Any]:
        """Settings that decide where in the servers' memory each parameter is."""
        config = self.config
        return {
            "servers": len(self.peers),
            "assign": config.ps.assign,
            "channels_last": config.compute.channels_last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        placement = self._placement()
        saved = placement | {"servers": None} | state.get("ps", {})  # older versions do not keep all of it
        if {name: saved[name] for name in placement} != placement:
            raise UserError(
                "the checkpoint keeps its optimizer on other servers than this run: resume with the same strategy ps, "
                "ps.servers, ps.assign and compute.channels_last; the checkpoint has "
                f"{state.get('ps', 'of another strategy')}"
            )
        self._step = int(state["ps"]["step"])

    def save_shards(self, folder: Path) -> None:
        if self.world.rank == 0:
            self._tell(Command.SAVE, folder)

    def load_shards(self, folder: Path) -> None:
        refused = torch.zeros(1)
        if self.world.rank == 0:
            refused += self._ask(Command.LOAD, folder)
        if self.all_reduce(refused).item():
            raise UserError(f"a server could not load its part of {folder}: see its line above")

    def _tell(self, command: Command, folder: Path, *numbers: float) -> None:
        """As `_ask`, for what no server may refuse."""
        if self._ask(command, folder, *numbers):
            raise Failure(f"a server could not {command.name.lower()} its part in {folder}: see its line above")

    def _ask(self, command: Command, folder: Path, *numbers: float) -> bool:
        """Give every server a path and numbers, and wait for each. Returns whether one could not do it."""
        data = encode(str(folder.resolve()))
        for peer in self.peers:
            peer.finish(peer.send_header(command, len(data), *numbers), peer.send(data))
        refusals = [answer(peer, command)[0] for peer in self.peers]
        return any(refusals)

    def report(self) -> dict[str, Any]:
        parts = self._parts or [Parts(push_s=0, wait_s=0, pull_s=0, update_s=0, staleness=0, straggler=-1)]
        medians = {
            name: statistics.median(getattr(part, name) for part in parts)
            for name in ("push_s", "wait_s", "pull_s", "update_s")
        }
        # The first steps warm up; that the median leaves out evaluations and checkpoints is why it is not a mean.
        steps_s = self._steps_s[WARM_STEPS:] or self._steps_s
        if steps_s:
            medians["step_s"] = statistics.median(steps_s)
        element_bytes = torch.finfo(self.wire).bits // 8
        return {
            "ps": {
                "mode": self.config.ps.mode,
                "workers": self.world.size,
                "servers": balance(self.assignment, element_bytes),
                "replayed": self.replayed,
                "medians": medians,
                "staleness": dict(sorted(Counter(part.staleness for part in parts).items())),
                "stragglers": {f"worker {worker}": steps for worker, steps in self._stragglers.most_common()},
            }
        }

    def close(self) -> None:
        if not dist.is_initialized() or sys.exception() is not None:
            return  # after a failure nobody listens any more: that this process ends is what the others see
        if self.world.role == "train" and hasattr(self, "_exchange"):
            for peer in self.peers:
                peer.finish(peer.send_header(Command.DONE))
            if self._record is not None:
                self._record.close()
        dist.destroy_process_group()

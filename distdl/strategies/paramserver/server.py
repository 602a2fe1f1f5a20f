"""A server rank, which keeps a part of the parameters and their optimizer state. One thread serves each worker.

Threads mostly wait in gloo, without Python's global interpreter lock. Their shared state (parameters, versions, live
workers) is protected by one condition.
"""

import json
import os
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil
import torch
from torch import nn

from distdl.core.config import Config
from distdl.core.errors import EXIT_FAILED, Failure, UserError, reading
from distdl.core.files import reopen_rows
from distdl.optim import optimizers
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.strategies.paramserver.folders import MAX_BYTES, Folders
from distdl.strategies.paramserver.optimizer_state import regrouped
from distdl.strategies.paramserver.protocol import (
    GROUP_FIELDS,
    MAX_REDUCED,
    MAX_STEP,
    REDUCTIONS,
    MessageType,
    Peer,
    count,
)
from distdl.strategies.paramserver.reducing_barrier import ReducingBarrier
from distdl.strategies.paramserver.stragglers import WINDOW, find_straggler
from distdl.strategies.text import decode

ELEMENTWISE = ("sgd", "adam", "adamw", "adagrad", "rmsprop")
"""Optimizers that can update parameters as one flat buffer. LARS and LAMB need the norm of each layer."""


class Server:
    """Parameters of one server, and its replies to the workers."""

    def __init__(self, config: Config, index: int, workers: list[Peer], wire: torch.dtype) -> None:
        self.config, self.index, self.workers, self.wire = config, index, workers, wire
        self.mode = config.ps.mode
        self.version = 0
        """Number of updates applied."""
        self.condition = threading.Condition()
        self.alive = set(range(len(workers)))
        self.steps = dict.fromkeys(self.alive, 0)
        self.seen = dict.fromkeys(self.alive, 0)
        """Version of the parameters with which each worker computes."""
        self.compute_s: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._pushes = ReducingBarrier(self.condition, self.alive)
        self._reductions = ReducingBarrier(self.condition, self.alive)
        self._rows: IO[str] | None = None
        self._folders = Folders(config)
        self._handlers: dict[MessageType, Callable[[int, Peer, list[float]], None]] = {
            MessageType.PUSH: self._push,
            MessageType.PULL: self._pull,
            MessageType.SET: self._set,
            MessageType.REDUCE: self._reduce,
            MessageType.SAVE: self._save,
            MessageType.LOAD: self._load,
            MessageType.OPEN: self._open,
        }

    def serve(self) -> None:
        """Serve until every worker has sent DONE, or a worker that the job needs disconnects."""
        threads = [
            threading.Thread(target=self._serve_worker, args=(worker,), name=f"worker-{worker}", daemon=True)
            for worker in self.alive
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._rows:
            self._rows.close()

    def _serve_worker(self, worker: int) -> None:
        peer = self.workers[worker]
        try:
            while True:
                message, numbers = peer.receive_header(patient=True)
                if message is MessageType.DONE:
                    self._remove(worker)
                    return
                self._handlers[message](worker, peer, numbers)
        except Failure as failure:
            if self.mode != "sync" and self.config.ps.tolerate_worker_loss:
                print(f"warning: {failure}: training continues without it", file=sys.stderr, flush=True)
                self._remove(worker)
            else:
                self._end_job(worker, str(failure))
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            self._end_job(worker, f"server {self.index} failed: {error}")

    def _end_job(self, worker: int, reason: str) -> None:
        print(f"error: {reason}: the job ends", file=sys.stderr, flush=True)
        transfers = []
        for other in sorted(self.alive - {worker}):
            try:
                transfers.append(self.workers[other].send_header(MessageType.GONE, worker))
            except Failure:
                continue
        time.sleep(1.0)  # wait until the headers are sent: threads that wait in gloo cannot be interrupted
        os._exit(EXIT_FAILED)

    def _remove(self, worker: int) -> None:
        with self.condition:
            self.alive.discard(worker)
            self._pushes.complete_if_all_arrived()
            self._reductions.complete_if_all_arrived()
            self.condition.notify_all()

    # Parameters and their updates.

    def _set(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        """Receive parameters and their groups from one worker, and make a new optimizer."""
        elements = count(numbers[0], self._most_elements(), "parameters")
        groups = torch.zeros(count(numbers[1], elements, "groups"), GROUP_FIELDS, dtype=torch.float64)
        peer.finish(peer.receive(groups))
        if sum(count(size, elements, "parameters in a group") for size in groups[:, 0].tolist()) != elements:
            raise Failure(f"{peer.name} sent groups that do not have its {elements} parameters")
        self.values = torch.zeros(elements)
        peer.finish(peer.receive(self.values))
        self.gradients = torch.zeros(elements)
        self.inbox = {other: torch.zeros(elements, dtype=self.wire) for other in self.alive}
        self.outbox = {other: torch.zeros(elements, dtype=self.wire) for other in self.alive}
        parameter_groups, offset = [], 0
        for size, peak_lr, weight_decay, penalised in groups.tolist():
            span = slice(offset, offset + int(size))
            offset = span.stop
            flat = nn.Parameter(self.values[span])
            flat.grad = self.gradients[span]
            group = {"params": [flat], "lr": peak_lr, "peak_lr": peak_lr, "weight_decay": weight_decay}
            parameter_groups.append(group | {"penalised": bool(penalised)})
        self.optimizer = None
        if parameter_groups:
            options = self.config.options.get("optimizer", {})
            self.optimizer = optimizers.make(parameter_groups, self.config.optim, True, options)
        peer.finish(peer.send_header(MessageType.SET))

    def _most_elements(self) -> int:
        """Parameters whose values, gradients and messages fit into the memory of this host."""
        each = 2 * torch.float32.itemsize + 2 * len(self.alive) * torch.finfo(self.wire).bits // 8
        return psutil.virtual_memory().total // each

    def _update(self, factor: float) -> float:
        """Perform a step of the optimizer on the complete buffer. Returns its duration in seconds."""
        start = time.perf_counter()
        if self.optimizer:
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            self.optimizer.step()
        self.version += 1
        return time.perf_counter() - start

    def _push(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        step, factor, compute_s = count(numbers[0], MAX_STEP, "as its step"), numbers[1], numbers[2]
        start = time.perf_counter()
        peer.finish(peer.receive(self.inbox[worker]))
        received = time.perf_counter()
        if self.mode == "sync":
            update_s, staleness = self._pushes.reduce(worker, factor, self._update_with_mean), 0
            values = self.values if self.wire is torch.float32 else self.outbox[worker].copy_(self.values)
        else:
            update_s, staleness, values = self._update_at_once(worker, step, factor)
        self.compute_s[worker].append(compute_s)
        reply = time.perf_counter()
        straggler = find_straggler(dict(self.compute_s))
        peer.finish(peer.send_header(MessageType.PUSH, update_s, staleness, straggler, self.version))
        peer.finish(peer.send(values))
        end = time.perf_counter()
        times = {"receive_s": received - start, "wait_s": reply - received - update_s}
        times |= {"update_s": update_s, "send_s": end - reply}
        self._record({"worker": worker, "step": step, **times, "staleness": staleness})

    def _update_with_mean(self, factors: dict[int, float]) -> float:
        """Update with the mean of all workers' gradients."""
        # Summed in the order of the workers, so that the sum is bitwise reproducible.
        first, *others = sorted(factors)
        self.gradients.copy_(self.inbox[first])
        for other in others:
            self.gradients.add_(self.inbox[other])
        self.gradients.div_(len(factors))
        return self._update(factors[first])

    def _update_at_once(self, worker: int, step: int, factor: float) -> tuple[float, int, torch.Tensor]:
        """Update with one worker's gradients. Returns the duration in seconds, the staleness and the new parameters."""
        with self.condition:
            staleness = self.version - self.seen[worker]
            self.gradients.copy_(self.inbox[worker])
            update_s = self._update(factor)
            self.steps[worker] = step
            self.condition.notify_all()
            if self.mode == "ssp":
                self.condition.wait_for(lambda: step - self._slowest_step() <= self.config.ps.staleness)
            self.seen[worker] = self.version
            return update_s, staleness, self.outbox[worker].copy_(self.values)

    def _slowest_step(self) -> int:
        return min((self.steps[worker] for worker in self.alive), default=sys.maxsize)

    def _pull(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        with self.condition:
            self.seen[worker] = self.version
            values = self.outbox[worker].copy_(self.values)
        peer.finish(peer.send_header(MessageType.PULL, self.version))
        peer.finish(peer.send(values))

    def _reduce(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        """Reduce numbers over the workers. Runs on server 0, so that it also works after a worker has died."""
        operation = list(REDUCTIONS.values())[count(numbers[0], len(REDUCTIONS) - 1, "as its operation")]
        data = torch.zeros(count(numbers[1], MAX_REDUCED, "numbers"), dtype=torch.float64)
        peer.finish(peer.receive(data))

        def combine(values: dict[int, torch.Tensor]) -> torch.Tensor:
            stacked = torch.stack([values[other] for other in sorted(values)])
            return operation(stacked, dim=0)

        combined = self._reductions.reduce(worker, data, combine)
        peer.finish(peer.send_header(MessageType.REDUCE))
        peer.finish(peer.send(combined))

    # Files.

    def _save(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        def save(folder: Path) -> None:
            state = self.optimizer.state_dict() if self.optimizer else {}
            write_tensors(folder / f"server-{self.index}.pt", {"optimizer": state, "values": self.values})

        self._use_folder(peer, MessageType.SAVE, numbers, save)

    def _load(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        def load(folder: Path) -> None:
            file = folder / f"server-{self.index}.pt"
            with reading(file, "a server's state"):
                state = read_tensors(file)
                if (state["values"].shape, state["values"].dtype) != (self.values.shape, self.values.dtype):
                    raise UserError(f"{file} was saved with another number of servers or another --ps.assign")
                self.values.copy_(state["values"])
                if self.optimizer:
                    self.optimizer.load_state_dict(regrouped(state["optimizer"], self.optimizer))

        self._use_folder(peer, MessageType.LOAD, numbers, load)

    def _open(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        def open_rows(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = reopen_rows(
                folder / f"server-{self.index}.jsonl", step=count(numbers[1], MAX_STEP, "as its step")
            )

        self._use_folder(peer, MessageType.OPEN, numbers, open_rows)

    def _use_folder(self, peer: Peer, message: MessageType, numbers: list[float], use: Callable[[Path], None]) -> None:
        """Receive the name of a folder, call `use` with its path, and reply whether it failed."""
        data = torch.zeros(count(numbers[0], MAX_BYTES, "bytes in the name of a folder"), dtype=torch.uint8)
        peer.finish(peer.receive(data))
        failed = 0
        try:
            use(self._folders.path(decode(data)))
        except (OSError, UserError) as error:
            action = {MessageType.OPEN: "record"}.get(message, message.name.lower())
            print(f"error: server {self.index} cannot {action}: {error}", file=sys.stderr, flush=True)
            failed = 1
        peer.finish(peer.send_header(message, failed))

    def _record(self, row: dict[str, float]) -> None:
        if self._rows is not None:
            with self.condition:
                self._rows.write(json.dumps(row) + "\n")

"""A rank that serves: it owns a part of the parameters and their optimizer state. A thread attends to each worker.

Threads spend their time in gloo's waits, which hold no lock of Python's. What they share (parameters, clocks, who
lives) is changed under one condition.
"""

import json
import os
import statistics
import sys
import threading
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import IO

import torch
from torch import nn

from distdl.core.config import Config
from distdl.core.errors import EXIT_FAILED, Failure, UserError, reading
from distdl.core.files import reopen_rows
from distdl.optim import optimizers
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.strategies.paramserver.protocol import REDUCTIONS, Command, Peer
from distdl.strategies.paramserver.reducing_barrier import Meeting
from distdl.strategies.text import decode

ELEMENTWISE = ("sgd", "adam", "adamw", "adagrad", "rmsprop")
"""Optimizers that may see parameters as one flat buffer: LARS and LAMB need each layer's norm."""
STRAGGLER_WINDOW, STRAGGLER_SPREADS, STRAGGLER_SHARE = 20, 6.0, 1.2
"""A worker is a straggler when the median of its last steps' compute time is above the others' median by so many median
absolute deviations, and by at least a fifth of it: on a quiet machine the spread is next to nothing."""


class Server:
    """One server's parameters, and the work on them."""

    def __init__(self, config: Config, index: int, workers: list[Peer], wire: torch.dtype) -> None:
        self.config, self.index, self.workers, self.wire_dtype = config, index, workers, wire
        self.mode = config.ps.mode
        self.version = 0
        """Updates applied so far."""
        self.condition = threading.Condition()
        self.living = set(range(len(workers)))
        self.steps = dict.fromkeys(self.living, 0)
        self.seen = dict.fromkeys(self.living, 0)
        """The version that each worker computes on."""
        self.compute_s: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=STRAGGLER_WINDOW))
        self._pushes = Meeting(self.condition, self.living)
        self._reductions = Meeting(self.condition, self.living)
        self._record: IO[str] | None = None

    def serve(self) -> None:
        """Until every worker has said DONE, or one is gone that the job cannot do without."""
        threads = [
            threading.Thread(target=self._attend, args=(worker,), name=f"worker-{worker}", daemon=True)
            for worker in self.living
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._record:
            self._record.close()

    def _attend(self, worker: int) -> None:
        peer = self.workers[worker]
        try:
            while True:
                command, numbers = peer.receive_header(patient=True)
                if command is Command.DONE:
                    self._leave(worker)
                    return
                getattr(self, f"_{command.name.lower()}")(worker, peer, numbers)
        except Failure as failure:
            if self.mode != "sync" and self.config.ps.survive:
                print(f"warning: {failure}: training goes on without it", file=sys.stderr, flush=True)
                self._leave(worker)
            else:
                self._give_up(worker, str(failure))
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            self._give_up(worker, f"server {self.index} failed: {error}")

    def _give_up(self, worker: int, why: str) -> None:
        print(f"error: {why}: the job ends", file=sys.stderr, flush=True)
        sent = []
        for other in sorted(self.living - {worker}):
            try:
                sent.append(self.workers[other].send_header(Command.GONE, worker))
            except Failure:
                continue
        time.sleep(1.0)  # for the headers to leave; the threads that wait cannot be told otherwise
        os._exit(EXIT_FAILED)

    def _leave(self, worker: int) -> None:
        with self.condition:
            self.living.discard(worker)
            self._pushes.settle()
            self._reductions.settle()
            self.condition.notify_all()

    # Parameters: how they come, and how they are kept.

    def _set(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        """Take the parameters and the groups in which they lie from one worker, and begin with a fresh optimizer."""
        elements, segments = int(numbers[0]), int(numbers[1])
        groups = torch.zeros(segments, 3, dtype=torch.float64)
        peer.finish(peer.receive(groups))
        self.values = torch.zeros(elements)
        peer.finish(peer.receive(self.values))
        self.gradients = torch.zeros(elements)
        self.inbox = {other: torch.zeros(elements, dtype=self.wire_dtype) for other in self.living}
        self.outbox = {other: torch.zeros(elements, dtype=self.wire_dtype) for other in self.living}
        parameters, offset = [], 0
        for length, peak_lr, weight_decay in groups.tolist():
            here = slice(offset, offset + int(length))
            offset = here.stop
            flat = nn.Parameter(self.values[here])
            flat.grad = self.gradients[here]
            group = {"params": [flat], "lr": peak_lr, "peak_lr": peak_lr, "weight_decay": weight_decay}
            parameters.append(group | {"penalised": weight_decay > 0})
        options = self.config.options.get("optimizer", {})
        self.optimizer = optimizers.make(parameters, self.config.optim, True, options) if parameters else None
        peer.finish(peer.send_header(Command.SET))

    def _update(self, factor: float) -> float:
        """One step of the optimizer on the whole buffer. Returns its seconds."""
        start = time.perf_counter()
        if self.optimizer:
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            self.optimizer.step()
        self.version += 1
        return time.perf_counter() - start

    def _push(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        step, factor, compute_s = int(numbers[0]), numbers[1], numbers[2]
        start = time.perf_counter()
        peer.finish(peer.receive(self.inbox[worker]))
        received = time.perf_counter()
        if self.mode == "sync":
            update_s, staleness = self._pushes.meet(worker, factor, self._average), 0
            out = self.values if self.wire_dtype is torch.float32 else self.outbox[worker].copy_(self.values)
        else:
            with self.condition:
                staleness = self.version - self.seen[worker]
                self.gradients.copy_(self.inbox[worker])
                update_s = self._update(factor)
                self.steps[worker] = step
                self.condition.notify_all()
                if self.mode == "ssp":
                    self.condition.wait_for(lambda: step - self._slowest() <= self.config.ps.staleness)
                self.seen[worker] = self.version
                out = self.outbox[worker].copy_(self.values)
        self.compute_s[worker].append(compute_s)
        answer = time.perf_counter()
        peer.finish(peer.send_header(Command.PUSH, update_s, staleness, self._straggler(), self.version))
        peer.finish(peer.send(out))
        sent = time.perf_counter()
        self._write(worker, step, received - start, answer - received - update_s, update_s, sent - answer, staleness)

    def _average(self, factors: dict[int, float]) -> float:
        # In the order of the workers, so that the sum has the same bits each time.
        first, *others = sorted(factors)
        self.gradients.copy_(self.inbox[first])
        for other in others:
            self.gradients.add_(self.inbox[other])
        self.gradients.div_(len(factors))
        return self._update(factors[first])

    def _pull(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        with self.condition:
            self.seen[worker] = self.version
            out = self.outbox[worker].copy_(self.values)
        peer.finish(peer.send_header(Command.PULL, self.version))
        peer.finish(peer.send(out))

    def _slowest(self) -> int:
        return min((self.steps[worker] for worker in self.living), default=sys.maxsize)

    def _straggler(self) -> int:
        """The worker whose compute time has left the others' spread, or -1."""
        medians = {w: statistics.median(s) for w, s in list(self.compute_s.items()) if len(s) == STRAGGLER_WINDOW}
        if len(medians) < 3:  # of two, who is to say which is the slow one
            return -1
        worst = max(medians, key=medians.__getitem__)
        others = [median for worker, median in medians.items() if worker != worst]
        middle = statistics.median(others)
        spread = statistics.median(abs(median - middle) for median in others)
        beyond = medians[worst] > max(middle + STRAGGLER_SPREADS * spread, middle * STRAGGLER_SHARE)
        return worst if beyond else -1

    # What all workers do together.

    def _reduce(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        """Collectives of the workers by way of server 0, so that they hold when a worker is gone."""
        data = torch.zeros(int(numbers[1]), dtype=torch.float64)
        peer.finish(peer.receive(data))
        operation = list(REDUCTIONS.values())[int(numbers[0])]

        def combine(values: dict[int, torch.Tensor]) -> torch.Tensor:
            stacked = torch.stack([values[other] for other in sorted(values)])
            return operation(stacked, dim=0)

        combined = self._reductions.meet(worker, data, combine)
        peer.finish(peer.send_header(Command.REDUCE))
        peer.finish(peer.send(combined))

    # State on disk.

    def _save(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        folder, wrong = _receive_path(peer, numbers), 0
        try:
            state = self.optimizer.state_dict() if self.optimizer else {}
            write_tensors(folder / f"server-{self.index}.pt", {"optimizer": state, "values": self.values})
        except OSError as error:
            print(f"error: server {self.index} cannot save: {error}", file=sys.stderr, flush=True)
            wrong = 1
        peer.finish(peer.send_header(Command.SAVE, wrong))

    def _load(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        file, wrong = _receive_path(peer, numbers) / f"server-{self.index}.pt", 0
        try:
            with reading(file, "a server's state"):
                state = read_tensors(file)
                if (state["values"].shape, state["values"].dtype) != (self.values.shape, self.values.dtype):
                    raise UserError(f"{file} was saved by another number of servers or another --ps.assign")
                self.values.copy_(state["values"])
                if self.optimizer:
                    self.optimizer.load_state_dict(state["optimizer"])
        except (OSError, UserError) as error:
            print(f"error: server {self.index} cannot load: {error}", file=sys.stderr, flush=True)
            wrong = 1
        peer.finish(peer.send_header(Command.LOAD, wrong))

    def _open(self, worker: int, peer: Peer, numbers: list[float]) -> None:
        file, wrong = _receive_path(peer, numbers) / f"server-{self.index}.jsonl", 0
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._record = reopen_rows(file, step=int(numbers[1]))
        except OSError as error:
            print(f"error: server {self.index} cannot record: {error}", file=sys.stderr, flush=True)
            wrong = 1
        peer.finish(peer.send_header(Command.OPEN, wrong))

    def _write(
        self, worker: int, step: int, receive: float, wait: float, update: float, send: float, stale: int
    ) -> None:
        if self._record is None:
            return
        row = {"worker": worker, "step": step, "receive_s": receive, "wait_s": wait, "update_s": update, "send_s": send}
        with self.condition:
            self._record.write(json.dumps(row | {"staleness": stale}) + "\n")


def _receive_path(peer: Peer, numbers: list[float]) -> Path:
    data = torch.zeros(int(numbers[0]), dtype=torch.uint8)
    peer.finish(peer.receive(data))
    return Path(decode(data))

"""What travels between a worker and a server: a header of a few numbers, and a flat buffer where the header says so.

torch.distributed point to point, gloo. The messages of one pair stay in order, by tag. Both sides of a pair know the
sizes beforehand, so that nothing is serialised.
"""

from datetime import timedelta
from enum import IntEnum
from typing import Any

import torch
import torch.distributed as dist

from distdl.core.errors import Failure
from distdl.strategies.text import decode, encode

HEADER_TAG, PAYLOAD_TAG = 1, 2
NAME_BYTES = 128


class Command(IntEnum):
    """First number of a header. A worker asks; a server answers by the same command, or by GONE."""

    PUSH = 1
    """Gradients follow; the answer brings parameters. Header: step, rate factor, compute seconds."""
    PULL = 2
    """The answer brings parameters."""
    SET = 3
    """Parameters follow, to begin with."""
    REDUCE = 4
    """A few numbers follow, to be combined over all workers that live. Header: operation, count."""
    SAVE = 5
    LOAD = 6
    """A path follows, of as many bytes as the header says. The answer comes when it is done; 1 if it went wrong."""
    OPEN = 7
    """A path follows: the folder in which the server shall record its steps."""
    DONE = 8
    """This worker sends no more."""
    GONE = 9
    """Answer: worker so-and-so is gone, and the job is over."""


REDUCTIONS = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}
"""A REDUCE header names its operation by the place in this table."""
HEADER = 6
"""Numbers of a header: the command and up to five arguments."""


class Peer:
    """The other end of one pair."""

    def __init__(self, rank: int, name: str, timeout_s: float) -> None:
        self.rank, self.name = rank, name
        self._timeout = timedelta(seconds=timeout_s)

    def send(self, tensor: torch.Tensor, tag: int = PAYLOAD_TAG) -> Any:
        """Begin to send; `finish` what this returns."""
        with _named(self):
            return dist.isend(tensor, self.rank, tag=tag)

    def receive(self, tensor: torch.Tensor, tag: int = PAYLOAD_TAG) -> Any:
        """Begin to receive; `finish` what this returns."""
        with _named(self):
            return dist.irecv(tensor, self.rank, tag=tag)

    def finish(self, *works: Any, patient: bool = False) -> None:
        """Wait for what `send` and `receive` began.

        Args:
            patient: wait as long as the peer lives, not only for the time that one silent in an exchange has.
        Raises:
            Failure: naming the peer, if it is gone or silent.
        """
        limit = () if patient else (self._timeout,)
        with _named(self):
            for work in works:
                work.wait(*limit)

    def send_header(self, command: Command, *numbers: float) -> Any:
        """Begin to send a header."""
        header = torch.zeros(HEADER, dtype=torch.float64)
        header[0] = command
        header[1 : 1 + len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        return self.send(header, HEADER_TAG)

    def receive_header(self, *, patient: bool = False) -> tuple[Command, list[float]]:
        """Wait for the next header."""
        header = torch.zeros(HEADER, dtype=torch.float64)
        self.finish(self.receive(header, HEADER_TAG), patient=patient)
        command, *numbers = header.tolist()
        return Command(int(command)), numbers


class _named:
    """gloo's complaints with the name of the peer that they are about."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            silent = "imed out" in str(error)
            what = "has been silent for too long (ps.timeout_s)" if silent else "is gone"
            raise Failure(f"{self._peer.name} {what}") from error


def exchange_names(name: str) -> list[str]:
    """All ranks' names, by rank. Collective over the default group."""
    mine, data = torch.zeros(NAME_BYTES, dtype=torch.uint8), encode(name)[:NAME_BYTES]
    mine[: len(data)] = data
    everyone = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    return [decode(other) for other in everyone]

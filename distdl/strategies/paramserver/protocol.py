"""Messages between a worker and a server: a header of a few numbers, followed by flat buffers for some types.

They use point-to-point communication of torch.distributed over gloo. Messages of a pair with the same tag keep their
order. Both ends know the sizes in advance, so that nothing is serialized.
"""

from datetime import timedelta
from enum import IntEnum
from typing import Protocol

import torch
import torch.distributed as dist

from distdl.core.errors import Failure
from distdl.strategies.text import decode, encode

HEADER_TAG, PAYLOAD_TAG = 1, 2
NAME_BYTES = 128


class MessageType(IntEnum):
    """First number of a header. A server replies to a worker with the same type, or with GONE."""

    PUSH = 1
    """Gradients follow; parameters follow the reply. Header: step, factor of the learning rate, compute seconds."""
    PULL = 2
    """Parameters follow the reply."""
    SET = 3
    """Parameter groups and initial parameters follow. Header: elements, groups."""
    REDUCE = 4
    """Numbers follow, to be reduced over all live workers. Header: operation, count."""
    SAVE = 5
    """The name of a folder follows (`folders`). Header of SAVE, LOAD and OPEN: its bytes. The reply is 1 on failure."""
    LOAD = 6
    """The name of a folder follows."""
    OPEN = 7
    """The name of the folder in which the server records its steps follows. Header: bytes, last step to keep."""
    DONE = 8
    """This worker sends nothing more."""
    GONE = 9
    """Reply only: the worker in the header disconnected, and the job ends."""


REDUCTIONS = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}
"""Operations of REDUCE, whose header contains an index into this table."""
HEADER = 6
"""Length of a header: the type and up to five arguments."""
MAX_STEP = 2**53
"""Largest number of a step that a header holds exactly."""
MAX_REDUCED = 2**24
"""Maximum count of REDUCE."""
GROUP_FIELDS = 4
"""Numbers of a parameter group in SET: elements, peak learning rate, weight decay, whether weight decay applies."""


class Transfer(Protocol):
    """A send or receive in progress, as torch.distributed returns it."""

    def wait(self, timeout: timedelta = ...) -> bool: ...


class Peer:
    """The other end of a connection."""

    def __init__(self, rank: int, name: str, timeout_s: float) -> None:
        self.rank, self.name = rank, name
        self._timeout = timedelta(seconds=timeout_s)

    def send(self, tensor: torch.Tensor, tag: int = PAYLOAD_TAG) -> Transfer | None:
        """Start to send; pass the result to `finish`."""
        with _errors_name(self):
            return dist.isend(tensor, self.rank, tag=tag)

    def receive(self, tensor: torch.Tensor, tag: int = PAYLOAD_TAG) -> Transfer | None:
        """Start to receive; pass the result to `finish`."""
        with _errors_name(self):
            return dist.irecv(tensor, self.rank, tag=tag)

    def finish(self, *transfers: Transfer | None, patient: bool = False) -> None:
        """Wait until transfers are complete.

        Args:
            patient: wait as long as the peer is alive, instead of ps.timeout_s.
        Raises:
            Failure: naming the peer, if it disconnected or does not respond.
        """
        limit = () if patient else (self._timeout,)
        with _errors_name(self):
            for transfer in transfers:
                if transfer is not None:
                    transfer.wait(*limit)

    def send_header(self, message: MessageType, *numbers: float) -> Transfer | None:
        """Start to send a header."""
        header = torch.zeros(HEADER, dtype=torch.float64)
        header[0] = message
        header[1 : 1 + len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        return self.send(header, HEADER_TAG)

    def receive_header(self, *, patient: bool = False) -> tuple[MessageType, list[float]]:
        """Wait for the next header."""
        header = torch.zeros(HEADER, dtype=torch.float64)
        self.finish(self.receive(header, HEADER_TAG), patient=patient)
        message, *numbers = header.tolist()
        if message not in set(MessageType):
            raise Failure(f"{self.name} sent a message of the unknown type {message:g}")
        return MessageType(message), numbers

    def receive_reply(self, message: MessageType) -> list[float]:
        """Wait for a server's reply as long as the server is alive: it may be waiting for other workers.

        Raises:
            Failure: if the server disconnected, or reports that a worker did.
        """
        reply, numbers = self.receive_header(patient=True)
        if reply is MessageType.GONE:
            raise Failure(f"{self.name} reports that worker {int(numbers[0])} disconnected")
        if reply is not message:
            raise AssertionError(f"{self.name} replied {reply.name} to {message.name}")
        return numbers


class _errors_name:
    """Context that converts gloo's errors to failures that name the peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            timed_out = "imed out" in str(error)
            problem = "did not respond in time (ps.timeout_s)" if timed_out else "disconnected"
            raise Failure(f"{self._peer.name} {problem}") from error


def count(number: float, most: int, what: str) -> int:
    """Return a number from a header as a count.

    Raises:
        Failure: if it is none, or more than `most`.
    """
    if not (0 <= number <= most and number == int(number)):
        raise Failure(f"a message has {number:g} {what}, of which there can be 0 to {most}")
    return int(number)


def exchange_names(name: str) -> list[str]:
    """Return the names of all ranks, by rank. A collective of the default group."""
    local_name, data = torch.zeros(NAME_BYTES, dtype=torch.uint8), encode(name)[:NAME_BYTES]
    local_name[: len(data)] = data
    names = [torch.zeros_like(local_name) for _ in range(dist.get_world_size())]
    dist.all_gather(names, local_name)
    return [decode(each) for each in names]

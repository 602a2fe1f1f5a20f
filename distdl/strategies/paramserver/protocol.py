"""Messages between a worker and a server: a header of a few numbers, followed by flat buffers for some types.

They use torch.distributed point to point over gloo. The messages of a pair keep their order, by tag. Both ends know the
sizes in advance, so that nothing is serialized.
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
    """First number of a header. A server answers a worker with the same type, or with GONE."""

    PUSH = 1
    """Gradients follow; the answer brings parameters. Header: step, rate factor, compute seconds."""
    PULL = 2
    """The answer brings parameters."""
    SET = 3
    """Parameter groups and initial parameters follow. Header: elements, groups."""
    REDUCE = 4
    """Numbers follow, to be reduced over all living workers. Header: operation, count."""
    SAVE = 5
    """The path of a folder follows. Header of SAVE, LOAD and OPEN: bytes of the path. The answer is 1 on failure."""
    LOAD = 6
    """The path of a folder follows."""
    OPEN = 7
    """The path of the folder in which the server records its steps follows. Header: bytes, last step to keep."""
    DONE = 8
    """This worker sends nothing more."""
    GONE = 9
    """Answer: the worker named in the header disconnected, and the job ends."""


REDUCTIONS = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}
"""Operations of REDUCE, whose header has an index of this table."""
HEADER = 6
"""Numbers of a header: the type and up to five arguments."""
GROUP_FIELDS = 4
"""Numbers of a parameter group in SET: elements, peak learning rate, weight decay, whether weight decay applies."""


class Transfer(Protocol):
    """A send or receive in progress, as torch.distributed returns it."""

    def wait(self, timeout: timedelta = ...) -> bool: ...


class Peer:
    """The other end of one pair."""

    def __init__(self, rank: int, name: str, timeout_s: float) -> None:
        self.rank, self.name = rank, name
        self._timeout = timedelta(seconds=timeout_s)

    def send(self, tensor: torch.Tensor, tag: int = PAYLOAD_TAG) -> Transfer | None:
        """Begin to send; pass the result to `finish`."""
        with _errors_name(self):
            return dist.isend(tensor, self.rank, tag=tag)

    def receive(self, tensor: torch.Tensor, tag: int = PAYLOAD_TAG) -> Transfer | None:
        """Begin to receive; pass the result to `finish`."""
        with _errors_name(self):
            return dist.irecv(tensor, self.rank, tag=tag)

    def finish(self, *transfers: Transfer | None, patient: bool = False) -> None:
        """Wait for the end of transfers.

        Args:
            patient: wait as long as the peer lives, instead of ps.timeout_s.
        Raises:
            Failure: naming the peer, if it disconnected or does not respond.
        """
        limit = () if patient else (self._timeout,)
        with _errors_name(self):
            for transfer in transfers:
                if transfer is not None:
                    transfer.wait(*limit)

    def send_header(self, message: MessageType, *numbers: float) -> Transfer | None:
        """Begin to send a header."""
        header = torch.zeros(HEADER, dtype=torch.float64)
        header[0] = message
        header[1 : 1 + len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        return self.send(header, HEADER_TAG)

    def receive_header(self, *, patient: bool = False) -> tuple[MessageType, list[float]]:
        """Wait for the next header."""
        header = torch.zeros(HEADER, dtype=torch.float64)
        self.finish(self.receive(header, HEADER_TAG), patient=patient)
        message, *numbers = header.tolist()
        return MessageType(int(message)), numbers

    def answer_to(self, message: MessageType) -> list[float]:
        """Wait for a server's answer as long as the server lives: it may be waiting for other workers.

        Raises:
            Failure: if the server disconnected, or reports that a worker did.
        """
        answer, numbers = self.receive_header(patient=True)
        if answer is MessageType.GONE:
            raise Failure(f"{self.name} reports that worker {int(numbers[0])} disconnected")
        if answer is not message:
            raise AssertionError(f"{self.name} answered {answer.name} to {message.name}")
        return numbers


class _errors_name:
    """Context that replaces gloo's errors by failures that name the peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            timed_out = "imed out" in str(error)
            problem = "did not respond in time (ps.timeout_s)" if timed_out else "disconnected"
            raise Failure(f"{self._peer.name} {problem}") from error


def exchange_names(name: str) -> list[str]:
    """Return the names of all ranks, by rank. Collective over the default group."""
    local_name, data = torch.zeros(NAME_BYTES, dtype=torch.uint8), encode(name)[:NAME_BYTES]
    local_name[: len(data)] = data
    names = [torch.zeros_like(local_name) for _ in range(dist.get_world_size())]
    dist.all_gather(names, local_name)
    return [decode(each) for each in names]

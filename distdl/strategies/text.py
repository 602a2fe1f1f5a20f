"""Exchange of text between ranks as bytes in tensors, without pickle."""

from typing import Literal, Protocol

import torch

from distdl.runtime.world import World

ReduceOp = Literal["sum", "max", "min"]
"""Operation by which `all_reduce` combines the tensors of the ranks."""


class Collectives(Protocol):
    """The collectives of a strategy that exchange text."""

    world: World

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor: ...

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor: ...


def encode(text: str) -> torch.Tensor:
    """Return the UTF-8 bytes of a text, [n] uint8. Undecodable bytes of file names are preserved."""
    return torch.tensor(list(text.encode(errors="surrogateescape")), dtype=torch.uint8)


def decode(data: torch.Tensor) -> str:
    """Return the text of bytes [n] from `encode`, which may be padded with zeros."""
    return bytes(data.tolist()).rstrip(b"\0").decode(errors="surrogateescape")


def broadcast_text(strategy: Collectives, text: str, source: int = 0) -> str:
    """Return the text of rank `source` on every rank."""
    data = encode(text)
    length = int(strategy.broadcast(torch.tensor([len(data)]), source))
    if strategy.world.rank != source:
        data = torch.zeros(length, dtype=torch.uint8)
    return decode(strategy.broadcast(data, source)) if length else ""


def gather_text(strategy: Collectives, text: str) -> list[str]:
    """Return the texts of all ranks, by rank, on every rank. Uses two collectives for any number of ranks."""
    rank, size, data = strategy.world.rank, strategy.world.size, encode(text)
    lengths = torch.zeros(size, dtype=torch.int64)
    lengths[rank] = len(data)
    # int32, because Horovod cannot reduce bytes.
    rows = torch.zeros(size, int(strategy.all_reduce(lengths).max()), dtype=torch.int32)
    rows[rank, : len(data)] = data  # each row has the bytes of one rank and zeros of the others: the sum is the text
    if rows.numel():
        strategy.all_reduce(rows)
    return [decode(row) for row in rows]

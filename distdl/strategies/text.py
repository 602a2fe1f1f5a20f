"""Text between ranks, as bytes in tensors: nothing is pickled."""

import torch

from distdl.strategies.base import Strategy


def encode(text: str) -> torch.Tensor:
    """UTF-8 bytes, [n] uint8."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def decode(data: torch.Tensor) -> str:
    """The text of what `encode` gave, also where zeros fill it up."""
    return bytes(data.tolist()).rstrip(b"\0").decode(errors="replace")


def broadcast_text(strategy: Strategy, text: str, source: int = 0) -> str:
    """The text of rank `source` on every rank."""
    mine = encode(text)
    length = int(strategy.broadcast(torch.tensor([len(mine)]), source))
    if strategy.world.rank != source:
        mine = torch.zeros(length, dtype=torch.uint8)
    return decode(strategy.broadcast(mine, source)) if length else ""


def gather_text(strategy: Strategy, text: str) -> list[str]:
    """The texts of all ranks, by rank, on every rank."""
    return [broadcast_text(strategy, text, source) for source in range(strategy.world.size)]

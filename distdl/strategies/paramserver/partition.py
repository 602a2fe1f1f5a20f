"""Assignment of tensors, or slices of tensors, to servers, and the balance of an assignment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SIZE_THRESHOLD = 1_000_000
"""Number of elements from which MXNet's kvstore slices an array over all servers (MXNET_KVSTORE_BIGARRAY_BOUND)."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Elements `start` to `stop` of a flattened tensor: one key of a parameter server, one request per push."""

    tensor: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


Assignment = list[list[Piece]]
"""Pieces of each server, in the order of its buffer."""


def round_robin(sizes: Sequence[int], servers: int) -> Assignment:
    """Assign whole tensors in turn, like TensorFlow's replica_device_setter."""
    assignment: Assignment = [[] for _ in range(servers)]
    for tensor, size in enumerate(sizes):
        assignment[tensor % servers].append(Piece(tensor=tensor, start=0, stop=size))
    return assignment


def size_threshold(sizes: Sequence[int], servers: int) -> Assignment:
    """Slice tensors above the threshold evenly over all servers, and assign others by a hash, like MXNet."""
    assignment: Assignment = [[] for _ in range(servers)]
    for tensor, size in enumerate(sizes):
        if size >= SIZE_THRESHOLD:
            cuts = [size * server // servers for server in range(servers + 1)]
            for server in range(servers):
                assignment[server].append(Piece(tensor=tensor, start=cuts[server], stop=cuts[server + 1]))
        else:
            # MXNet's hash multiplies the key by a prime, which assigns neighbors to different servers.
            assignment[tensor * 9973 % servers].append(Piece(tensor=tensor, start=0, stop=size))
    return assignment


def balanced(sizes: Sequence[int], servers: int) -> Assignment:
    """Assign by size, like Optimus (Peng et al. 2018, section 5.3).

    Tensors larger than the average load of a server are sliced. Then each piece, largest first, is assigned to the
    server with the fewest elements; ties are broken by the fewest requests.
    """
    share = max(-(-sum(sizes) // servers), 1)
    pieces = [
        Piece(tensor=tensor, start=start, stop=min(start + share, size))
        for tensor, size in enumerate(sizes)
        for start in range(0, size, share)
    ]
    assignment: Assignment = [[] for _ in range(servers)]
    for piece in sorted(pieces, key=lambda piece: -piece.size):
        least = min(range(servers), key=lambda server: (_elements(assignment[server]), len(assignment[server])))
        assignment[least].append(piece)
    return [sorted(pieces, key=lambda piece: (piece.tensor, piece.start)) for pieces in assignment]


ASSIGNMENTS: dict[str, Callable[[Sequence[int], int], Assignment]] = {
    "round-robin": round_robin,
    "size-threshold": size_threshold,
    "balanced": balanced,
}


def _elements(pieces: Sequence[Piece]) -> int:
    return sum(piece.size for piece in pieces)


def balance(assignment: Assignment, element_bytes: int) -> list[dict[str, float]]:
    """Bytes and requests per push of each server, and its imbalance: the ratio of its bytes to the average."""
    sizes = [_elements(pieces) for pieces in assignment]
    average = sum(sizes) / len(sizes) or 1.0
    return [
        {"bytes": size * element_bytes, "requests": len(pieces), "imbalance": size / average}
        for size, pieces in zip(sizes, assignment, strict=True)
    ]

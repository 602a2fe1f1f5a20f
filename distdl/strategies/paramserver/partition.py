"""Which server keeps which part of which tensor, and how even that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SIZE_THRESHOLD = 1_000_000
"""Elements above which MXNet's kvstore cuts an array over all servers (MXNET_KVSTORE_BIGARRAY_BOUND)."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Elements `start` to `stop` of a tensor, flattened: one key of a parameter server, one request a push."""

    tensor: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


Assignment = list[list[Piece]]
"""Pieces by server, in the order in which they lie in its buffer."""


def round_robin(sizes: Sequence[int], servers: int) -> Assignment:
    """Whole tensors in turn, as TensorFlow's replica_device_setter lays them."""
    assignment: Assignment = [[] for _ in range(servers)]
    for tensor, size in enumerate(sizes):
        assignment[tensor % servers].append(Piece(tensor=tensor, start=0, stop=size))
    return assignment


def size_threshold(sizes: Sequence[int], servers: int) -> Assignment:
    """MXNet's: a tensor above the threshold is cut evenly over all servers, a smaller one goes to one by its key."""
    assignment: Assignment = [[] for _ in range(servers)]
    for tensor, size in enumerate(sizes):
        if size >= SIZE_THRESHOLD:
            cuts = [size * server // servers for server in range(servers + 1)]
            for server in range(servers):
                assignment[server].append(Piece(tensor=tensor, start=cuts[server], stop=cuts[server + 1]))
        else:
            # MXNet hashes the key by a multiplication with a prime, so that neighbours part.
            assignment[tensor * 9973 % servers].append(Piece(tensor=tensor, start=0, stop=size))
    return assignment


def balanced(sizes: Sequence[int], servers: int) -> Assignment:
    """Optimus' (Peng et al. 2018, section 5.3): what is larger than the average share is sliced; then largest first,
    each to the server with the fewest elements, of equals to the one with the fewest requests."""
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
    return [sorted(own, key=lambda piece: (piece.tensor, piece.start)) for own in assignment]


ASSIGNMENTS: dict[str, Callable[[Sequence[int], int], Assignment]] = {
    "round-robin": round_robin,
    "size-threshold": size_threshold,
    "balanced": balanced,
}


def _elements(pieces: Sequence[Piece]) -> int:
    return sum(piece.size for piece in pieces)


def balance(assignment: Assignment, element_bytes: int) -> list[dict[str, float]]:
    """Bytes and requests of a push by server, and its bytes over the average's."""
    sizes = [_elements(pieces) for pieces in assignment]
    average = sum(sizes) / len(sizes) or 1.0
    return [
        {"bytes": size * element_bytes, "requests": len(pieces), "imbalance": size / average}
        for size, pieces in zip(sizes, assignment, strict=True)
    ]

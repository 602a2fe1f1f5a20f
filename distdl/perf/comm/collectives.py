"""Time to exchange gradients or activations, by scheme (Qi et al. 2017, section 3.2; ring and latency are ours).

    one-to-all  2 (N-1) D/B          a master receives all gradients and sends the sum to each
    tree        2 ceil(log2 N) D/B   up a binary tree and down again
    butterfly   ceil(log2 N) D/B     in each round pairs exchange everything
    ring        2 (N-1)/N D/B        reduce-scatter and all-gather in slices of D/N; no scheme moves fewer bytes
    ps          2 max(N/S, 1) D/B    push to S servers that hold D/S each, pull from them
    all-gather  (N-1) D/B            each receives the D bytes of every other

D bytes, N workers, B bytes/s one way; sequential messages also pay the latency. If workers are in groups whose
links to other groups are slower, the passes that leave the group use those.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

from distdl.core.errors import UserError, nearest
from distdl.perf.hardware import NetworkLink


@dataclass(frozen=True)
class Load:
    """Traffic of the busiest worker of a scheme."""

    near: float
    """Number of times that D passes its link within its group."""
    far: float
    """Number of times that D passes its link to another group."""
    messages: int
    """Number of sequential messages."""


def one_to_all(workers: int, near: int) -> Load:
    return Load(2 * (near - 1), 2 * (workers - near), 2 * (workers - 1))


def tree(workers: int, near: int) -> Load:
    rounds, inside = ceil(log2(workers)), ceil(log2(near))
    return Load(2 * inside, 2 * (rounds - inside), 2 * rounds)


def butterfly(workers: int, near: int) -> Load:
    rounds, inside = ceil(log2(workers)), ceil(log2(near))
    return Load(inside, rounds - inside, rounds)


def ring(workers: int, near: int) -> Load:
    # A ring runs at the rate of its slowest link, and a ring over two groups has links between them.
    passes = 2 * (workers - 1) / workers
    return Load(0, passes, 2 * (workers - 1)) if workers > near else Load(passes, 0, 2 * (workers - 1))


def all_gather(workers: int, near: int) -> Load:
    return Load(near - 1, workers - near, workers - 1)


def parameter_server(workers: int, near: int, servers: int = 1) -> Load:
    passes = 2 * max(workers / servers, 1.0)
    return Load(passes * near / workers, passes * (workers - near) / workers, 2)


SCHEMES: dict[str, Callable[..., Load]] = {
    "ring": ring, "tree": tree, "butterfly": butterfly, "one-to-all": one_to_all, "ps": parameter_server,
}  # fmt: skip
"""Ways to sum gradients, called with the workers and how many of them are in the first one's group."""


def all_reduce_s(
    scheme: str, size_bytes: float, workers: int, link: NetworkLink, *, ppp: float = 1.0, servers: int = 1
) -> float:
    """Seconds until each of `workers` has the sum of `size_bytes` of gradients.

    Args:
        scheme: one of SCHEMES.
        ppp: share of the link's bandwidth that is reached.
        servers: of scheme "ps", on machines of their own.
    Raises:
        UserError: the scheme is not known, or a count or share is out of range.
    """
    if scheme not in SCHEMES:
        raise UserError(f'scheme "{scheme}" is not known{nearest(scheme, SCHEMES)} (known: {", ".join(SCHEMES)})')
    if workers < 1 or servers < 1:
        raise UserError(f"workers and servers must be at least 1, they are {workers} and {servers}")
    near = min(workers, link.group or workers)
    load = parameter_server(workers, near, servers) if scheme == "ps" else SCHEMES[scheme](workers, near)
    return _seconds(load, size_bytes, link, ppp)


def all_gather_s(size_bytes: float, workers: int, link: NetworkLink, *, ppp: float = 1.0) -> float:
    """Seconds until each of `workers` has received the `size_bytes` of each other."""
    return _seconds(all_gather(workers, min(workers, link.group or workers)), size_bytes, link, ppp)


def _seconds(load: Load, size_bytes: float, link: NetworkLink, ppp: float) -> float:
    if not 0 < ppp <= 1:
        raise UserError(f"the network's PPP is a share between 0 and 1, not {ppp}")
    passes = load.near + load.far / link.between
    return passes * size_bytes / (link.bytes_per_s * ppp) + load.messages * link.latency_s

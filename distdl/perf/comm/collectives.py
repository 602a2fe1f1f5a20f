"""Time to exchange gradients or activations, by scheme (Qi et al. 2017, section 3.2, with ring and latency added).

    one-to-all  2 (N-1) D/B          a master receives all gradients and sends the sum to each
    tree        2 ceil(log2 N) D/B   reduction up a binary tree, broadcast down
    butterfly   ceil(log2 N) D/B     in each round, pairs exchange all D bytes
    ring        2 (N-1)/N D/B        reduce-scatter and all-gather in slices of D/N; no scheme moves fewer bytes
    ps          2 max(N/S, 1) D/B    push to S servers with D/S bytes each, pull from them
    all-gather  (N-1) D/B            each worker receives the D bytes of every other

D is the message size in bytes, N the number of workers, and B the bandwidth in bytes/s in one direction. Each
sequential message adds the latency. If workers are in groups with slower links between groups, transfers to other
groups use those links.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

from distdl.core.errors import UserError, nearest
from distdl.perf.hardware import NetworkLink


@dataclass(frozen=True)
class Load:
    """Traffic of the busiest worker of a scheme."""

    within_group: float
    """Bytes sent over its link within its group, as a multiple of D."""
    between_groups: float
    """Bytes sent over its link to other groups, as a multiple of D."""
    messages: int
    """Number of sequential messages."""


def one_to_all(workers: int, group_size: int) -> Load:
    """Load of a master that receives all gradients and sends their sum; `group_size` workers are in its group."""
    return Load(2 * (group_size - 1), 2 * (workers - group_size), 2 * (workers - 1))


def tree(workers: int, group_size: int) -> Load:
    """Load of a reduction along a binary tree and a broadcast back; `group_size` workers are in a group."""
    rounds, inside = ceil(log2(workers)), ceil(log2(group_size))
    return Load(2 * inside, 2 * (rounds - inside), 2 * rounds)


def butterfly(workers: int, group_size: int) -> Load:
    """Load of ceil(log2(workers)) rounds in which pairs exchange all bytes; `group_size` workers are in a group."""
    rounds, inside = ceil(log2(workers)), ceil(log2(group_size))
    return Load(inside, rounds - inside, rounds)


def ring(workers: int, group_size: int) -> Load:
    """Load of a ring all-reduce; `group_size` workers are in a group."""
    # The slowest link determines the rate of a ring, and a ring over several groups has links between them.
    passes = 2 * (workers - 1) / workers
    return Load(0, passes, 2 * (workers - 1)) if workers > group_size else Load(passes, 0, 2 * (workers - 1))


def all_gather(workers: int, group_size: int) -> Load:
    """Load of an all-gather; `group_size` workers are in a group."""
    return Load(group_size - 1, workers - group_size, workers - 1)


def parameter_server(workers: int, group_size: int, servers: int = 1) -> Load:
    """Load of pushing gradients to servers and pulling parameters; `group_size` workers are in a group."""
    passes = 2 * max(workers / servers, 1.0)
    return Load(passes * group_size / workers, passes * (workers - group_size) / workers, 2)


SCHEMES: dict[str, Callable[..., Load]] = {
    "ring": ring, "tree": tree, "butterfly": butterfly, "one-to-all": one_to_all, "ps": parameter_server,
}  # fmt: skip
"""All-reduce schemes: functions of the number of workers and the number of workers in the first one's group."""


def all_reduce_s(
    scheme: str, size_bytes: float, workers: int, link: NetworkLink, *, ppp: float = 1.0, servers: int = 1
) -> float:
    """Return the seconds until each of `workers` has the sum of `size_bytes` of gradients.

    Args:
        scheme: one of SCHEMES.
        ppp: achieved share of the link's bandwidth, above 0 and at most 1.
        servers: number of servers of scheme "ps", on separate machines.
    Raises:
        UserError: the scheme is not known, or a count or share is out of range.
    """
    if scheme not in SCHEMES:
        raise UserError(f'scheme "{scheme}" is not known{nearest(scheme, SCHEMES)} (known: {", ".join(SCHEMES)})')
    if workers < 1 or servers < 1:
        raise UserError(f"workers and servers must be at least 1, they are {workers} and {servers}")
    group_size = min(workers, link.group or workers)
    load = parameter_server(workers, group_size, servers) if scheme == "ps" else SCHEMES[scheme](workers, group_size)
    return _seconds(load, size_bytes, link, ppp)


def all_gather_s(size_bytes: float, workers: int, link: NetworkLink, *, ppp: float = 1.0) -> float:
    """Return the seconds until each of `workers` has received `size_bytes` from every other worker."""
    return _seconds(all_gather(workers, min(workers, link.group or workers)), size_bytes, link, ppp)


def _seconds(load: Load, size_bytes: float, link: NetworkLink, ppp: float) -> float:
    if not 0 < ppp <= 1:
        raise UserError(f"the network's PPP is a share between 0 and 1, not {ppp}")
    passes = load.within_group + load.between_groups / link.between
    return passes * size_bytes / (link.bytes_per_s * ppp) + load.messages * link.latency_s

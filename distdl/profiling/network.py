"""Measure the network between ranks: bandwidth and latency of each pair, all-reduce bandwidth by message size.

Every rank calls `measure` after torch.distributed was initialized. A transfer ends with an acknowledgment of the
receiver, because the sender alone would measure only the time until the kernel has buffered the message.
"""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist

SIZES = (*(2**power for power in range(10, 28, 2)), 2**27)
"""Sizes of the all-reduce messages in bytes: 1 KiB to 128 MiB."""
SMALLEST, LARGEST = 2**20, 2**28
"""Sizes of the smallest and of the largest message between a pair, in bytes."""
WARMUP_TRIPS, TRIPS = 5, 50
"""Number of round trips of a pair for warm-up, and of measured ones."""
TOTAL_S, SHORTEST_S, LONGEST_S = 60.0, 0.05, 0.5
"""Duration of all pairs together, and shortest and longest duration of a pair's transfers, in seconds."""
MAX_ALL_REDUCE_S = 2.0
"""An all-reduce that would take more seconds is omitted, and so are those of larger messages."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The link from one rank to another."""

    source: int
    target: int
    bytes_per_s: float
    """Bandwidth of the payload, in one direction."""
    latency_s: float
    """Half of the median round trip of 4 bytes."""
    latency_p90_s: float
    """Half of its 90th percentile."""


@dataclass(frozen=True, kw_only=True)
class AllReduce:
    """Time of an all-reduce of one fp32 message over all ranks."""

    bytes: int
    seconds: float
    """Median over repetitions of the slowest rank's time."""
    spread_s: float
    """Interquartile range."""
    bus_bytes_per_s: float
    """Bus bandwidth, 2 (n - 1) / n * bytes / seconds: the rate at which each rank sends and receives in a ring. It is
    comparable between world sizes."""


@dataclass(frozen=True, kw_only=True)
class NetworkMeasurement:
    """All measurements, the same on every rank."""

    hosts: list[str]
    """Host name by rank."""
    backend: str
    device: str
    pairs: list[Pair]
    all_reduce: list[AllReduce]

    def as_json(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)


def measure(device: torch.device, host: str, sizes: tuple[int, ...] = SIZES) -> NetworkMeasurement:
    """Measure all pairs and all-reduce; all ranks must call it. Pairs take turns, so that transfers share no link.

    Args:
        device: device whose memory has the messages: the GPU for NCCL.
        host: name of this rank's host.
        sizes: sizes of the all-reduce messages in bytes, multiples of 4.
    """
    world = dist.get_world_size()
    hosts: list[Any] = [None] * world
    dist.all_gather_object(hosts, host)
    link = _Link(device)
    each_s = min(max(TOTAL_S / max(world * (world - 1), 1), SHORTEST_S), LONGEST_S)
    ends = [(source, target) for source in range(world) for target in range(world) if source != target]
    pairs = [link.pair(source, target, each_s) for source, target in ends]
    reduced: list[AllReduce] = []
    for size in sizes if world > 1 else ():
        if reduced and reduced[-1].seconds * size / reduced[-1].bytes > MAX_ALL_REDUCE_S:
            break  # the same on every rank, since the times are those of the slowest
        reduced.append(_all_reduce(device, size, each_s))
    return NetworkMeasurement(
        hosts=hosts, backend=dist.get_backend(), device=device.type, pairs=pairs, all_reduce=reduced
    )


class _Link:
    """Point-to-point measurements between two ranks. The source controls them, other ranks wait for the result."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank = device, dist.get_rank()
        self.token = torch.zeros(1, device=device)

    def pair(self, source: int, target: int, seconds: float) -> Pair:
        values = torch.zeros(3, dtype=torch.float64)
        if self.rank == source:
            trips = sorted([self._round_trip(target) for _ in range(WARMUP_TRIPS + TRIPS)][WARMUP_TRIPS:])
            latency, slow = statistics.median(trips) / 2, trips[int(TRIPS * 0.9)] / 2
            values = torch.tensor([self._bandwidth(target, seconds), latency, slow], dtype=torch.float64)
        elif self.rank == target:
            self._acknowledge(source)
        values = values.to(self.device)
        dist.broadcast(values, source)
        rate, latency, slow = values.tolist()
        return Pair(source=source, target=target, bytes_per_s=rate, latency_s=latency, latency_p90_s=slow)

    def _round_trip(self, target: int) -> float:
        start = time.perf_counter()
        dist.send(self.token, target)
        dist.recv(self.token, target)
        self._finish()
        return time.perf_counter() - start

    def _bandwidth(self, target: int, seconds: float) -> float:
        self._transfer(target, SMALLEST)  # warm-up: connections, page faults
        first = self._transfer(target, SMALLEST)
        size = min(max(int(first * seconds / 2), SMALLEST), LARGEST)
        # The faster of two, because disturbances only slow a transfer down.
        rate = max(self._transfer(target, size) for _ in range(2))
        self._announce(target, 0)
        return rate

    def _transfer(self, target: int, size: int) -> float:
        """Send one message, and return the bandwidth in bytes/s."""
        message = torch.zeros(size, dtype=torch.uint8, device=self.device)
        self._announce(target, size)
        start = time.perf_counter()
        dist.send(message, target)
        dist.recv(self.token, target)
        self._finish()
        return size / (time.perf_counter() - start)

    def _announce(self, target: int, size: int) -> None:
        """Send the size of the next message to the target (0 for no further message), and wait until it is ready."""
        dist.send(torch.tensor([size], device=self.device), target)
        dist.recv(self.token, target)
        self._finish()

    def _acknowledge(self, source: int) -> None:
        """Run the target's side of a pair: receive and acknowledge messages."""
        for _ in range(WARMUP_TRIPS + TRIPS):
            dist.recv(self.token, source)
            dist.send(self.token, source)
        order = torch.ones(1, dtype=torch.int64, device=self.device)
        while True:
            dist.recv(order, source)
            message = torch.zeros(int(order), dtype=torch.uint8, device=self.device)
            dist.send(self.token, source)
            if not len(message):
                return
            dist.recv(message, source)
            dist.send(self.token, source)

    def _finish(self) -> None:
        if self.device.type == "cuda":  # NCCL only enqueues: the message has arrived when the stream is done
            torch.cuda.current_stream().synchronize()


def _all_reduce(device: torch.device, size: int, seconds: float) -> AllReduce:
    message = torch.zeros(size // 4, device=device)
    _timed(message)
    first = torch.tensor([_timed(message)], dtype=torch.float64, device=device)
    dist.all_reduce(first, op=dist.ReduceOp.MAX)
    repeats = min(max(int(seconds / float(first)), 3), 100)
    times = torch.tensor([_timed(message) for _ in range(repeats)], dtype=torch.float64, device=device)
    dist.all_reduce(times, op=dist.ReduceOp.MAX)
    low, median, high = statistics.quantiles(times.tolist(), n=4)
    world = dist.get_world_size()
    bus = 2 * (world - 1) / world * size / median
    return AllReduce(bytes=size, seconds=median, spread_s=high - low, bus_bytes_per_s=bus)


def _timed(message: torch.Tensor) -> float:
    start = time.perf_counter()
    dist.all_reduce(message)
    if message.device.type == "cuda":
        torch.cuda.current_stream().synchronize()
    return time.perf_counter() - start

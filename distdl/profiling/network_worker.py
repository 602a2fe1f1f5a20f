"""One rank of `distdl probe network`: join the process group, measure, and print the result on rank 0."""

import dataclasses
import socket
import statistics
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table

from distdl.core.config import ComputeConfig
from distdl.core.console import PlainConsole
from distdl.core.errors import EXIT_DONE
from distdl.core.files import write_json
from distdl.core.text import print_line
from distdl.profiling.network import NetworkMeasurement, measure
from distdl.runtime.device import backend, make_world
from distdl.runtime.launch_env import Placement, placement
from distdl.runtime.rendezvous import init_process_group

SHOWN = 6
"""Maximum number of ranks whose matrix fits into 80 columns; for more, pairs are summarized (the JSON has all)."""


def probe(kind: str, file: Path | None) -> int:
    """Measure the network between the ranks that the environment describes. Rank 0 prints tables and writes `file`.

    Args:
        kind: device, as in compute.device.
    Returns:
        the exit code.
    """
    config = dataclasses.replace(ComputeConfig(), device=kind)
    device = make_world(config, placement() or Placement()).device
    torch.set_num_threads(1)
    store = init_process_group(backend(device), timedelta(minutes=30), _warn)
    try:
        network = measure(device, socket.gethostname())
        if dist.get_rank() == 0:
            show(network, PlainConsole())
            if file:
                write_json(file, network.as_json())
    finally:
        dist.destroy_process_group()
        del store
    return EXIT_DONE


def _warn(message: str) -> None:
    print_line(f"warning: {message}", to_stderr=True)


def show(network: NetworkMeasurement, console: Console) -> None:
    """Print tables of a measurement, in at most 80 columns."""
    names = rank_names(network.hosts)
    console.print(f"{len(names)} ranks over {network.backend}, messages in {network.device} memory")
    by_ends = {(pair.source, pair.target): pair for pair in network.pairs}
    if 1 < len(names) <= SHOWN:
        for title, formatted in (
            ("bandwidth from (row) to (column), Gbit/s", lambda pair: f"{pair.bytes_per_s * 8e-9:.3f}"),
            ("latency one way, median, \N{MICRO SIGN}s", lambda pair: f"{pair.latency_s * 1e6:.0f}"),
        ):
            console.print(title)
            table = Table()
            for name in ("", *names):
                table.add_column(name, justify="right", overflow="fold")
            for source, name in enumerate(names):
                cells = [by_ends.get((source, target)) for target in range(len(names))]
                table.add_row(name, *("" if pair is None else formatted(pair) for pair in cells))
            console.print(table)
    elif len(names) > SHOWN:
        console.print(_summary(network, names))
    table = Table(title="all-reduce of fp32 over all ranks", title_justify="left")
    for heading in ("message", "time, ms", "spread, ms", "bus bandwidth, Gbit/s"):
        table.add_column(heading, justify="right")
    for row in network.all_reduce:
        bus = f"{row.bus_bytes_per_s * 8e-9:.3f}"
        table.add_row(_bytes(row.bytes), f"{row.seconds * 1e3:.3f}", f"{row.spread_s * 1e3:.3f}", bus)
    if network.all_reduce:
        console.print(table)


def rank_names(hosts: list[str]) -> list[str]:
    """Return a name for each rank: that of its host, with the rank's number if the host has several ranks."""
    return [host if hosts.count(host) == 1 else f"{host} #{rank}" for rank, host in enumerate(hosts)]


def _summary(network: NetworkMeasurement, names: list[str]) -> Table:
    table = Table(title=f"{len(network.pairs)} pairs", title_justify="left")
    for heading in ("", "slowest", "median", "fastest", "the slowest pair"):
        table.add_column(heading, justify="right", overflow="fold")
    for title, key, scale, digits in (
        ("bandwidth, Gbit/s", "bytes_per_s", 8e-9, 3),
        ("latency, \N{MICRO SIGN}s", "latency_s", 1e6, 0),
    ):
        ordered = sorted(network.pairs, key=lambda pair: getattr(pair, key), reverse=key == "latency_s")
        middle = statistics.median(getattr(pair, key) for pair in ordered)
        ends = (getattr(ordered[0], key), middle, getattr(ordered[-1], key))
        worst = f"{names[ordered[0].source]} to {names[ordered[0].target]}"
        table.add_row(title, *(f"{value * scale:.{digits}f}" for value in ends), worst)
    return table


def _bytes(size: int) -> str:
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.0f} {unit}"
    return f"{size} B"

"""Throughput of the parameter server, compared with bare torch.distributed send and recv, and on shaped links.

- loopback: one worker pushes and pulls 100 MB to and from one server. The same two processes, in turn with every step,
  send and receive as many bytes with torch.distributed only;
- links of 1 Gbit/s (network namespaces; needs root): the same, compared with the bandwidth of the link;
- two workers whose network has two equal halves, on such links: one server and two servers, in turn.

    python benchmarks/paramserver.py [--rounds 20] [--megabytes 100] [--quick]
"""

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ranks
from timing import markdown_table, spread, write_result

from distdl.core.config import Config, OptimConfig, PSConfig
from distdl.core.files import read_rows
from distdl.launchers.netns import Hosts, parse_rate

RATE = "1gbit"
WARM = 3
"""Number of warm-up steps, which are not counted: they cause page faults, and TCP's windows grow."""
READY, PUSH, PULL = 101, 102, 103
"""Tags of the messages without parameter server, whose own tags are small numbers."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job with given numbers of workers and servers."""

    workers: int = 1
    servers: int = 1
    steps: int = 20
    elements: int
    folder: str
    """Folder in which the ranks record their steps."""
    bare: bool = False
    """Whether worker 0 and server 0 also exchange bare messages, in turn with the steps."""


Parts = dict[str, list[float]]


def rank(number: int, job: Job) -> Parts:
    """Run one rank. Worker 0 returns seconds by part and step: push, wait, pull, step; bare push, bare pull."""
    import torch
    from torch import nn

    from distdl.optim import optimizers
    from distdl.strategies.paramserver.worker import Worker
    from distdl.telemetry.clock import Clock

    ps = PSConfig(servers=job.servers, assign="round-robin", timeout_s=120)
    config = Config(strategy="ps", ps=ps, optim=OptimConfig(name="sgd", lr=1e-3))
    strategy = Worker(config)
    strategy.folder = Path(job.folder)
    world = strategy.setup()
    buffer = torch.zeros(job.elements if job.bare else 0)
    if world.role == "serve":
        if job.bare:
            threading.Thread(target=_echo, args=(buffer, job.steps + WARM), daemon=True).start()
        strategy.serve()
        strategy.close()
        return {}
    halves = nn.ParameterList([nn.Parameter(torch.zeros(job.elements // 2)) for _ in range(2)])
    optimizer = optimizers.build(config.optim, halves, global_batch=job.workers, compiled=False)
    strategy.prepare(halves, optimizer, Clock())
    seconds_by_part: Parts = {}
    for step in range(job.steps + WARM):
        strategy.barrier()
        start = time.perf_counter()
        strategy.step()
        step_s = time.perf_counter() - start
        parts = strategy.records.exchanges[-1]
        row = {"push": parts.push_s, "wait": parts.wait_s, "pull": parts.pull_s, "step": step_s}
        if job.bare:
            row |= _bare(buffer, server=job.workers)
        if step >= WARM:
            for name, seconds in row.items():
                seconds_by_part.setdefault(name, []).append(seconds)
    strategy.close()
    return seconds_by_part


def measure(job: Job, rate: str = "") -> Parts:
    """Run a job, on loopback or on links of a rate. Returns worker 0's seconds and server 0's seconds of receiving."""
    with tempfile.TemporaryDirectory() as folder:
        number, job = job.workers + job.servers, replace(job, folder=folder)
        with Hosts(count=number, rate=rate) if rate else nullcontext() as hosts:
            seconds_by_part = ranks.run(rank, job, ranks=number, hosts=hosts)[0]
        rows = list(read_rows(Path(folder) / "ps" / "server-0.jsonl"))
    received = [row["receive_s"] for row in rows if row["worker"] == 0 and row["step"] > WARM]
    return seconds_by_part | {"received": received}


def _bare(buffer: Any, server: int) -> dict[str, float]:
    """Send and receive the buffer with torch.distributed only."""
    import torch
    import torch.distributed as dist

    ready = torch.zeros(1)
    dist.recv(ready, server, tag=READY)  # the server waits for its buffer
    start = time.perf_counter()
    dist.send(buffer, server, tag=PUSH)
    sent = time.perf_counter()
    coming = dist.irecv(buffer, server, tag=PULL)
    dist.recv(ready, server, tag=READY)
    answered = time.perf_counter()
    coming.wait()
    return {"bare push": sent - start, "bare pull": time.perf_counter() - answered}


def _echo(buffer: Any, rounds: int) -> None:
    import torch
    import torch.distributed as dist

    for _ in range(rounds):
        coming = dist.irecv(buffer, 0, tag=PUSH)
        dist.send(torch.zeros(1), 0, tag=READY)
        coming.wait()
        dist.send(torch.zeros(1), 0, tag=READY)
        dist.send(buffer, 0, tag=PULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="steps that are counted on loopback")
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--quick", action="store_true", help="a few small steps, printed and not saved")
    options = parser.parse_args()
    steps, size = (3, 5e6) if options.quick else (options.rounds, options.megabytes * 1e6)
    job = Job(steps=steps, elements=int(size / 4) // 2 * 2, folder="", bare=True)
    loopback = measure(job)
    few = replace(job, steps=max(steps // 5, 2))
    link = measure(few, rate=RATE)
    halves = replace(few, workers=2, bare=False, steps=max(few.steps // 3, 2))
    pairs = [
        [measure(replace(halves, servers=servers), rate=RATE) for servers in (1, 2)]
        for _ in range(1 if options.quick else 3)
    ]
    text = report(loopback, link, pairs, size)
    print(text)
    if not options.quick:
        print(write_result("paramserver", "cpu", text, "torch"))


def report(loopback: Parts, link: Parts, pairs: list[list[Parts]], size: float) -> str:
    """Tables of the three parts."""
    rows = []
    for part in ("push", "pull"):
        share = [bare / ps for ps, bare in zip(loopback[part], loopback[f"bare {part}"], strict=True)]
        speeds = [spread([size / s / 1e9 for s in loopback[name]], 2) for name in (part, f"bare {part}")]
        rows.append([part, *speeds, spread(share)])
    first = markdown_table(
        ["loopback", "ps, GB/s", "bare send or recv, GB/s", "bare seconds over ps seconds, step by step"], rows
    )
    rate = parse_rate(RATE)
    named = {
        "push, until the worker's last byte has left": "push",
        "push, as the server receives it": "received",
        "pull, as the worker receives it": "pull",
        "bare send": "bare push",
        "bare recv": "bare pull",
    }
    rows = [[text, spread([size * 8 / s / rate for s in link[name]])] for text, name in named.items()]
    second = markdown_table([f"link of {RATE}", "share of the link"], rows)
    moved = [[statistics.median(_moved(parts)) for parts in pair] for pair in pairs]
    rows = [
        ["1 server", spread([pair[0] for pair in moved])],
        ["2 servers", spread([pair[1] for pair in moved])],
        ["2 over 1", spread([pair[1] / pair[0] for pair in moved])],
    ]
    third = markdown_table(["2 workers, two equal halves", "push, wait and pull, s per step"], rows)
    return "\n\n".join(
        [
            (
                f"{size / 1e6:.0f} MB of fp32 each way; medians (range). Shares are of payload: headers of TCP, IP and "
                "Ethernet take 4.4 % of a link's bits."
            ),
            f"## Loopback, {len(loopback['push'])} steps\n\n{first}",
            f"## One worker, one server, {len(link['push'])} steps\n\n{second}",
            (
                f"## Two servers instead of one, {len(pairs)} pairs of jobs of {len(pairs[0][0]['push'])} steps\n\n"
                f"{third}\n\nA second server does not speed up a single worker, whose link transfers all bytes."
            ),
        ]
    )


def _moved(parts: Parts) -> list[float]:
    return [sum(step) for step in zip(parts["push"], parts["wait"], parts["pull"], strict=True)]


if __name__ == "__main__":
    main()

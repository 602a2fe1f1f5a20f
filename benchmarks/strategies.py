"""Step time of each strategy: plain DDP, and distdl's ddp, horovod and deepspeed, on the MNIST CNN; interleaved.

Two ranks, each pinned to its own core; every measurement starts a new pair of processes. For the efficiency of two
ranks, a single rank is measured too, and two independent ranks that do not communicate: they show which part of the
loss is due to the machine (memory, caches, clock rate) instead of the exchange. distdl configures malloc to keep memory
that a step frees (distdl/runtime/memory.py); plain DDP is also measured with this setting, so that the remaining
difference is that of distdl's loop.

    python benchmarks/strategies.py [--rounds 3] [--steps 50] [--quick]
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timing import interleaved, markdown_table, ratios, spread, write_result

ARGV = (
    *("--model.name", "mnist-cnn", "--data.image-size", "28", "--data.loader", "synthetic", "--data.batch-size", "64"),
    *("--optim.name", "sgd", "--optim.lr", "0.001", "--optim.momentum", "0.9", "--optim.weight-decay", "0"),
    *("--schedule.name", "constant", "--epochs", "1000", "--evaluate-every", "1000", "--checkpoint.every-epochs", "0"),
    *("--data.drop-last", "--progress", "plain"),
)
"""The CNN of 3,274,634 parameters at 28 x 28 pixels, batch size 64 per rank, with noise as images."""
WARM = 10
"""Number of warm-up steps, which are not counted: they allocate memory and select kernels."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A way to train two ranks."""

    ranks: int = 2
    strategy: str = "ddp"
    argv: tuple[str, ...] = ()
    independent: bool = False
    """Whether the ranks are independent of each other."""
    plain: bool = False
    """Whether to train with the manual loop."""
    keeps_memory: bool = False
    """Whether that loop keeps the memory that a step frees, as distdl does."""


ALONE, INDEPENDENT, PLAIN, DDP = "distdl, 1 rank", "distdl, 2 x 1 rank, no exchange", "plain DDP", "distdl ddp"
KEPT = "plain DDP, memory kept"
SUBJECTS = {
    PLAIN: Subject(plain=True),
    KEPT: Subject(plain=True, keeps_memory=True),
    DDP: Subject(),
    "distdl horovod": Subject(strategy="horovod"),
    "distdl deepspeed, stage 0": Subject(strategy="deepspeed", argv=("--deepspeed.stage", "0")),
    "distdl deepspeed, stage 1": Subject(strategy="deepspeed", argv=("--deepspeed.stage", "1")),
    ALONE: Subject(ranks=1, strategy="single"),
    INDEPENDENT: Subject(strategy="single", independent=True),
}


def measure(subject: Subject, steps: int) -> dict[str, Any]:
    """Run one pair of processes. Returns rank 0's mean `step_s` after the first steps, and its `phases_s` per step."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "distdl.training.session", "distdl.strategies.ddp"])
    with tempfile.TemporaryDirectory() as folder, Rendezvous(subject) as places:
        warm = context.Barrier(subject.ranks)
        ranks = [
            context.Process(target=_rank, args=(subject, steps, place, rank, folder, warm)) for rank, place in places
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        if any(rank.exitcode for rank in ranks):
            raise SystemExit(f"{subject}: a rank failed")
        return json.loads((Path(folder) / "rank0.json").read_text())


class Rendezvous:
    """Context of a subject's ranks, in which Horovod's server runs. Yields [(rank, environment variables)]."""

    def __init__(self, subject: Subject) -> None:
        self._subject, self._server = subject, None

    def __enter__(self) -> list[tuple[int, dict[str, str]]]:
        size = 1 if self._subject.independent else self._subject.ranks
        if self._subject.strategy == "horovod":
            return list(enumerate(self._horovod(size)))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        variables = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), **rendezvous}
        return [(rank, variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(self._subject.ranks)]

    def _horovod(self, size: int) -> list[dict[str, str]]:
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
        from horovod.runner.http.http_server import RendezvousServer

        plan = get_host_assignments(parse_hosts(f"localhost:{size}"), size)
        self._server = RendezvousServer()
        common = create_run_env_vars("127.0.0.1", ["lo"], self._server.start())
        self._server.init(plan)
        return [{**{k: str(v) for k, v in common.items()}, **create_slot_env_vars(slot)} for slot in plan]

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.stop()


def _rank(subject: Subject, steps: int, place: Mapping[str, str], rank: int, folder: str, warm: Any) -> None:
    os.environ.update(place)
    if subject.independent and rank:
        steps *= 2  # so that rank 0 is never alone while it is timed
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    with contextlib.redirect_stdout(io.StringIO()):
        outcome = (
            _plain(subject, steps) if subject.plain else _by_distdl(subject, steps, Path(folder) / f"run{rank}", warm)
        )
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(outcome))


def _plain(subject: Subject, steps: int) -> dict[str, Any]:
    """A manual training loop with DistributedDataParallel."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    from distdl.models.small import mnist_cnn
    from distdl.runtime.memory import keep_freed

    torch.set_num_threads(1)
    if subject.keeps_memory:
        keep_freed()
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    network = mnist_cnn(classes=10, channels=1, image_size=28)
    model = DistributedDataParallel(network, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, fused=True)
    images, labels = torch.randn(64, 1, 28, 28), torch.randint(10, (64,))
    for step in range(steps + WARM):
        if step == WARM:
            start = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    step_s = (time.perf_counter() - start) / steps
    dist.destroy_process_group()
    return {"step_s": step_s, "phases_s": {}}


def _by_distdl(subject: Subject, steps: int, out: Path, warm: Any) -> dict[str, Any]:
    """distdl's trainer as `distdl.train` runs it: with display, telemetry and the clock."""
    from distdl.cli.recipe import from_command_line
    from distdl.strategies.base import make
    from distdl.training.events import Callback
    from distdl.training.session import train

    times: list[float] = []
    phases: list[dict[str, float]] = []

    class Steps(Callback):
        def step_end(self, trainer: Any, loss: Any) -> None:
            if len(times) == WARM - 1:
                warm.wait()  # independent ranks start at the same time, too
            times.append(time.perf_counter())
            if len(times) in (WARM, WARM + steps):
                phases.append(trainer.clock.read())

    argv = [
        *ARGV,
        *subject.argv,
        "--strategy",
        subject.strategy,
        "--max-steps",
        str(steps + WARM),
        "--out",
        str(out),
    ]
    config = from_command_line(argv, strategy=subject.strategy)
    strategy = make(config)
    strategy.setup()
    try:
        train(config, strategy, (Steps(),))
    finally:
        strategy.close()
    spent = {name: (phases[1][name] - phases[0][name]) / steps for name in phases[0]}
    return {"step_s": (times[WARM + steps - 1] - times[WARM - 1]) / steps, "phases_s": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="one short round, printed and not saved")
    options = parser.parse_args()
    rounds, steps = (1, 10) if options.quick else (options.rounds, options.steps)
    phases: dict[str, list[dict[str, float]]] = {name: [] for name in SUBJECTS}

    def timed(name: str) -> float:
        outcome = measure(SUBJECTS[name], steps)
        phases[name].append(outcome["phases_s"])
        print(f"{name:<34} {outcome['step_s'] * 1e3:7.2f} ms per step", flush=True)
        return outcome["step_s"]

    figures = interleaved({name: lambda name=name: timed(name) for name in SUBJECTS}, rounds)
    text = report(figures, phases, steps)
    print(text)
    if not options.quick:
        print(write_result("strategies", "cpu", text, "torch", "distdl", "horovod", "deepspeed"))


def report(figures: dict[str, list[float]], phases: dict[str, list[dict[str, float]]], steps: int) -> str:
    """Tables of step times and of the time that two ranks lose."""
    speed = ratios({name: [1 / value for value in values] for name, values in figures.items()}, to=PLAIN)
    rows = [
        [
            name,
            spread([value * 1e3 for value in values], 1),
            "" if name in (ALONE, INDEPENDENT) else spread(speed[name]),
        ]
        for name, values in figures.items()
    ]
    steps_table = markdown_table(["training", "step in ms: median (range)", "speed over plain DDP"], rows)
    efficiency = ratios({ALONE: figures[ALONE], DDP: figures[DDP]}, to=DDP)[ALONE]
    alone, independent_ms, both = (statistics.median(figures[name]) * 1e3 for name in (ALONE, INDEPENDENT, DDP))
    names = list(phases[DDP][0])
    parts = [
        [name, *(f"{statistics.median(p[name] for p in phases[way]) * 1e3:.2f}" for way in (ALONE, INDEPENDENT, DDP))]
        for name in names
    ]
    parts_table = markdown_table(["phase, ms per step", ALONE, INDEPENDENT, DDP], parts)
    return "\n\n".join(
        [
            f"{len(figures[DDP])} rounds of {steps} steps, interleaved; fp32, batch 64 per rank, one core per rank.",
            steps_table,
            f"Efficiency of two ranks with ddp (step time of one rank / step time of two): {spread(efficiency)}.",
            (
                f"A step of two ranks takes {both - alone:.1f} ms longer. {independent_ms - alone:.1f} ms of these are "
                "lost even without communication, because the ranks share memory bandwidth, caches and power. "
                f"{both - independent_ms:.1f} ms are the exchange of 13.1 MB of gradients."
            ),
            parts_table,
        ]
    )


if __name__ == "__main__":
    main()

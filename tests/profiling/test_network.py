"""`distdl probe network`: it measures the rate to which a link was limited."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from rich.console import Console

from distdl.profiling import network
from distdl.profiling.network import AllReduce, NetworkMeasurement, Pair
from distdl.profiling.network_worker import rank_names, show
from gpu_fake import on_gpu, simulate_gpu

PROBE = [sys.executable, "-m", "distdl.cli", "probe", "network"]


def probe(*arguments: str) -> tuple[dict, str]:
    done = subprocess.run([*PROBE, "--json", "measured.json", *arguments], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(Path("measured.json").read_text(encoding="utf-8")), done.stdout


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("rate", "gbit"), [("1gbit", 1.0), ("100mbit", 0.1)])
def test_the_measured_rate_is_the_configured_rate(rate: str, gbit: float) -> None:
    measured, printed = probe("--with", "netns", "--hosts", "3", "--rate", rate)
    assert measured["hosts"] == ["h0", "h1", "h2"]
    assert len(measured["pairs"]) == 6
    for pair in measured["pairs"]:
        assert 0.9 * gbit <= pair["bytes_per_s"] * 8e-9 <= 1.0 * gbit, pair
        assert 0 < pair["latency_s"] <= pair["latency_p90_s"] < 0.01
    # In a ring each rank sends and receives at once, each at the rate of its link.
    best = max(row["bus_bytes_per_s"] for row in measured["all_reduce"])
    assert 0.85 * gbit <= best * 8e-9 <= 1.0 * gbit
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith(("/", "distdl")))


def test_a_probe_of_local_ranks_by_torchrun() -> None:
    """The file of --json replaces a link."""
    Path("victim").write_text("victim", encoding="utf-8")
    Path("measured.json").symlink_to("victim")
    measured, printed = probe("--nproc", "2")
    assert [(pair["source"], pair["target"]) for pair in measured["pairs"]] == [(0, 1), (1, 0)]
    assert all(pair["bytes_per_s"] > 1e7 for pair in measured["pairs"])
    sizes = [row["bytes"] for row in measured["all_reduce"]]
    assert sizes == sorted(sizes)
    assert "all-reduce" in printed
    assert Path("victim").read_text(encoding="utf-8") == "victim" and not Path("measured.json").is_symlink()


def test_pairs_of_many_ranks_are_summarized() -> None:
    world = 8
    pairs = [
        Pair(source=a, target=b, bytes_per_s=1e9 if (a, b) != (2, 5) else 1e8, latency_s=1e-4, latency_p90_s=2e-4)
        for a in range(world)
        for b in range(world)
        if a != b
    ]
    row = AllReduce(bytes=2**20, seconds=0.01, spread_s=0.001, bus_bytes_per_s=1.75 * 2**20 / 0.01)
    hosts = [f"n{rank // 4}" for rank in range(world)]
    measured = NetworkMeasurement(hosts=hosts, backend="gloo", device="cpu", pairs=pairs, all_reduce=[row])
    console = Console(width=80, file=io.StringIO())
    show(measured, console)
    text = console.file.getvalue()
    assert "0.800" in text
    assert "n0 #2 to n1 #5" in " ".join(text.split())
    assert "56 pairs" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_host_with_one_rank_is_shown_by_its_name() -> None:
    assert rank_names(["a", "b", "b"]) == ["a", "b #1", "b #2"]


def test_a_message_between_gpus_is_timed_until_it_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL only queues the exchange; the stream takes two seconds for it."""
    gpu, now = simulate_gpu(monkeypatch), [0.0]

    def wait() -> None:
        now[0] += (gpu.queued_ms - gpu.done_ms) / 1e3
        gpu.done_ms = gpu.queued_ms

    monkeypatch.setattr(gpu, "synchronize", wait)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(dist, "all_reduce", lambda message: gpu.queue(2))
    assert network._timed(torch.zeros(4)) == 0
    assert network._timed(on_gpu(torch.zeros(4))) == 4

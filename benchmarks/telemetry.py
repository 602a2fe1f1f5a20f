"""Cost of sampling per step: a training with the sampler at 10 Hz, compared with the same training without it.

One process trains ResNet-18 at 64 pixels on the CPU, with and without the sampler in turn, some seconds each. It
samples the host and a device of the small NVML library that the tests compile (tests/support/nvml_fake.c). The real
nvidia-ml-py makes the same calls as for a GPU, so that the cost of Python and ctypes is measured. The time inside
NVIDIA's driver is not measured; a driver call releases the interpreter lock, so the training continues meanwhile.

There are two figures: the ratio of step times with and without the sampler, pair by pair, and the CPU time of sampling
as a share of one core. The second is more precise, and is an upper bound of the first if all cores compute.

    python benchmarks/telemetry.py [--rounds 14] [--block 4] [--threads 2]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import markdown_table, spread, write_result

FAKE = Path(__file__).parents[1] / "tests/support/nvml_fake.c"
UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
KINDS = (("nvml", "device"), ("host", "host"))
STATE = "\n".join(
    [
        f"count 1\n0.uuid {UUID}\n0.name NVIDIA Toy\n0.busy 93\n0.memory_busy 41\n0.memory_total 80e9",
        "0.memory_used 30e9\n0.sm_clock 1410\n0.memory_clock 1593\n0.power 251500\n0.temperature 61",
        "0.throttle 4\n0.energy 1000000\n0.gpm 1",
        *(f"0.field.{number} {number}" for number in (138, 139, 197, 198)),
        *(f"0.gpm.{number} {number}" for number in (2, 3, 5, 10, 12, 13, 20, 21, 60, 61)),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--block", type=float, default=4.0, help="seconds with the sampler, and without, in a round")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if "NVML_FAKE_STATE" not in os.environ:
        restart_with_nvml()
        return
    figures = measure(options.rounds, options.block, options.threads)
    print(write_result("telemetry", "cpu", report(figures, options.threads), "torch", "nvidia-ml-py", "psutil"))


def restart_with_nvml() -> None:
    """Restart this program, so that the dynamic loader, which searches once per process, finds the small NVML."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler to build the small NVML with")
    with tempfile.TemporaryDirectory() as folder:
        library, state = Path(folder, "libnvidia-ml.so.1"), Path(folder, "state.txt")
        state.write_text(STATE)
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(FAKE)], check=True)
        environment = os.environ | {"LD_LIBRARY_PATH": folder, "NVML_FAKE_STATE": str(state)}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)


def measure(rounds: int, block_s: float, threads: int) -> dict:
    """Step times by round, with and without the sampler, and the CPU time of sampling."""
    import torch
    import torchvision

    torch.set_num_threads(threads)
    network = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.randn(16, 3, 64, 64), torch.randint(10, (16,))

    def steps(seconds: float) -> list[float]:
        times: list[float] = []
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            start = time.perf_counter()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - start)
        return times

    steps(2.0)
    figures: dict = {"without": [], "with": [], "nvml": 0, "host": 0, "cpu_s": 0.0, "span_s": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for name in ("without", "with") if number % 2 else ("with", "without"):
                figures[name].append(statistics.mean(sampled(steps, block_s, Path(folder), figures, on=name == "with")))
    return figures


def sampled(steps, block_s: float, folder: Path, figures: dict, *, on: bool) -> list[float]:
    """Step times of a block, with or without the sampler."""
    if not on:
        return steps(block_s)
    from distdl.telemetry.host import HostCounters
    from distdl.telemetry.nvml import NvmlDevice
    from distdl.telemetry.sampler import Sampler

    with (folder / "telemetry.jsonl").open("a", encoding="utf-8") as sink:

        def write(row: dict) -> None:
            sink.write(json.dumps(row) + "\n")
            sink.flush()
            figures[row["kind"]] += 1

        sampler = Sampler(
            [NvmlDevice(UUID), HostCounters()], write, lambda: (0, 0), hz=10, labels={"rank": 0, "host": "here"}
        )
        start = time.perf_counter()
        sampler.start()
        times = steps(block_s)
        sampler.stop()
        figures["span_s"] += time.perf_counter() - start
        figures["cpu_s"] += sampler.seconds
    return times


def report(figures: dict, threads: int) -> str:
    """Text of the result."""
    ratios = [a / b for a, b in zip(figures["with"], figures["without"], strict=True)]
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    rows = [
        ["step without the sampler, ms", spread([1e3 * value for value in figures["without"]], 2)],
        ["step with it, ms", spread([1e3 * value for value in figures["with"]], 2)],
        ["with over without, pair by pair", f"{statistics.mean(ratios):.4f} ± {error:.4f} (standard error)"],
        *([f"samples of the {name} per second", f"{figures[key] / figures['span_s']:.1f}"] for key, name in KINDS),
        ["CPU time of sampling, share of one core", f"{figures['cpu_s'] / figures['span_s']:.4%}"],
        [f"the same, share of the {threads} cores that train", f"{figures['cpu_s'] / figures['span_s'] / threads:.4%}"],
    ]
    head = f"ResNet-18, 64 px, batch 16, fp32, {threads} threads; {len(ratios)} rounds, interleaved."
    return f"{head}\n\n{markdown_table(['figure', 'median (range)'], rows)}"


if __name__ == "__main__":
    main()

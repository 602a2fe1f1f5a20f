"""Time of `python -m distdl.train --profile digits` to its first step, compared with `import torch`.

Each round times new interpreters in turn: until torch is imported, until the run's first step is in its metrics.jsonl,
until that run of one step (with its evaluation, checkpoint and final table) has ended, and `distdl --help`.

    python benchmarks/startup.py [--repeats 7]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import interleaved, markdown_table, spread, write_result


def seconds(*argv: str) -> float:
    """Measure the wall time of a new interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def seconds_to_import(module: str) -> float:
    """Measure the wall time of a new interpreter until it has imported `module`, without its exit."""
    start = time.perf_counter()
    code = f"import {module}; print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        return time.perf_counter() - start


def seconds_to_step(out: Path) -> float:
    """Measure the wall time until the first step of a training is recorded in its run folder."""
    argv = ["-m", "distdl.train", "--profile", "digits", "--max-steps", "1", "--log-every-s", "0", "--out", str(out)]
    metrics = out / "metrics.jsonl"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL) as process:
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"the training ended with code {process.returncode} before its first step")
            time.sleep(0.005)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def out() -> Path:
            return Path(folder) / str(time.time_ns())

        train = ("-m", "distdl.train", "--profile", "digits", "--max-steps", "1", "--out")
        subjects = {
            "import torch": lambda: seconds_to_import("torch"),
            "distdl.train, first step": lambda: seconds_to_step(out()),
            "distdl.train, complete run of one step": lambda: seconds(*train, str(out())),
            "distdl --help": lambda: seconds("-m", "distdl.cli", "--help"),
        }
        interleaved(subjects, 1)  # fills the page cache
        figures = interleaved(subjects, options.repeats)
    added = [a - b for a, b in zip(figures["distdl.train, first step"], figures["import torch"], strict=True)]
    rows = [[name, spread(values, 2)] for name, values in figures.items()]
    rows.append(["first step less import torch", spread(added, 2)])
    table = markdown_table(["subject", "seconds: median (range)"], rows)
    print(table)
    print(write_result("startup", "cpu", f"{options.repeats} rounds, interleaved, files cached.\n\n{table}", "torch"))


if __name__ == "__main__":
    main()

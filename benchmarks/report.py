"""Time of `distdl report RUN` and size of its page, for runs of 1,000, 10,000 and 100,000 logged steps.

The folders are written by tests/support/run_folders.py in the format of `distdl train`, a row for each step, with
3,600 samples of a GPU and of the host (an hour at 1 Hz). Each round starts a new interpreter, including imports. The
first page on a machine, which builds the JavaScript library, is timed separately with an empty cache.

    python benchmarks/report.py [--repeats 5]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import interleaved, markdown_table, spread, write_result

sys.path.append(str(Path(__file__).parents[1] / "tests/support"))
from run_folders import write_run

STEPS = (1_000, 10_000, 100_000)
SAMPLES = 3_600


def seconds(run: Path, cache: Path, cpu_s: list[float] | None = None) -> float:
    """Measure the wall time of `distdl report` in a new process; its CPU seconds are appended to `cpu_s`."""
    start, usage_before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", "distdl.cli", "report", str(run)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"XDG_CACHE_HOME": str(cache)})
    usage_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if cpu_s is not None:
        cpu_s.append(usage_after.ru_utime + usage_after.ru_stime - usage_before.ru_utime - usage_before.ru_stime)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = {steps: write_run(folder / str(steps), rows=steps, samples=SAMPLES) for steps in STEPS}
        first_s = [seconds(runs[1_000], folder / f"cache{number}") for number in range(options.repeats)]
        cpu_s: dict[int, list[float]] = {steps: [] for steps in STEPS}
        subjects = {
            f"{steps:,}": lambda run=run, steps=steps: seconds(run, folder / "cache0", cpu_s[steps])
            for steps, run in runs.items()
        }
        figures = interleaved(subjects, options.repeats)
        rows = []
        for steps, run in runs.items():
            page_mb = (run / "report.html").stat().st_size / 1e6
            files_mb = sum(file.stat().st_size for file in (run / "report").iterdir()) / 1e6
            wall, busy = spread(figures[f"{steps:,}"], 2), spread(cpu_s[steps], 2)
            rows.append([f"{steps:,}", wall, busy, f"{page_mb:.2f}", f"{files_mb:.1f}"])
        rows.append(["1,000, the machine's first", spread(first_s, 2), "", "", ""])
    header = [
        "logged steps",
        "seconds: median (range)",
        "seconds of cores",
        "page (MB)",
        "SVG, PNG and CSV files (MB)",
    ]
    table = markdown_table(header, rows)
    print(table)
    text = f"{options.repeats} rounds, interleaved, files cached. Target: below 3 s and 5 MB for 100,000.\n\n{table}"
    print(write_result("report", "cpu", text, "vl-convert-python", "jinja2"))


if __name__ == "__main__":
    main()

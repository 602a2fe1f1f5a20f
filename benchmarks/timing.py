"""Functions shared by the benchmarks: interleaved repeats, spreads, and results files with date and hardware."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


def interleaved(subjects: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measure each subject `repeats` times in turn, A B C A B C ..., so that drift of the machine affects all.

    Args:
        subjects: functions by name; each returns its figure (seconds, images/s).
    """
    figures: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, measure in subjects.items():
            figures[name].append(measure())
    return figures


def ratios(figures: Mapping[str, Sequence[float]], to: str) -> dict[str, list[float]]:
    """Divide each subject's figures by those of `to` in the same rounds."""
    return {name: [a / b for a, b in zip(values, figures[to], strict=True)] for name, values in figures.items()}


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Format values as "median (minimum to maximum)"."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def machine() -> str:
    """Describe hardware and system in one line, without host names."""
    import psutil

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}"


def versions(*packages: str) -> str:
    """Python's version and those of the packages."""
    entries = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            entries.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            entries.append(f"{package} not installed")
    return ", ".join(entries)


def write_result(name: str, hardware: str, text: str, *packages: str) -> Path:
    """Write benchmarks/results/NAME_HARDWARE_DATE.md with the command, the machine, the versions and the result."""
    file = RESULTS / f"{name}_{hardware}_{time.strftime('%Y-%m-%d')}.md"
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    head = f"# {name}\n\n- command: `{command}`\n- machine: {machine()}\n- versions: {versions(*packages)}\n"
    file.write_text(f"{head}\n{text.strip()}\n", encoding="utf-8")
    return file

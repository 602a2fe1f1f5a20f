"""All measurements that need a GPU, in one command of less than nine minutes, if a GPU is available for a short time.

    python benchmarks/gpu.py [--parts train,nvml,...] [--data FOLDER] [--json FILE] [--rehearse]

Each part runs in its own process with its own time limit: one that fails, hangs or lacks a package does not affect the
others. It needs no network and no installed distdl, prints one table last, and writes its figures as JSON.
Without a GPU it prints an error and exits with 2. `--rehearse` runs small parts on the CPU instead: this tests that
they work, and measures nothing.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_parts import PARTS, Setting
from timing import RESULTS, machine, versions

ROOT = Path(__file__).resolve().parents[1]
TOTAL_S, REHEARSAL_S = 525.0, 3600.0
"""Time limits in seconds: of all parts together, and of each part in a rehearsal on the CPU."""
PACKAGES = ("torch", "torchvision", "nvidia-ml-py", "numpy", "scipy", "tyro", "pydantic", "tomli_w", "rich", "pillow")
OPTIONAL = {"nvidia.dali": "DALI", "tyro": "tyro", "pydantic": "pydantic", "tomli_w": "tomli-w", "psutil": "psutil"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to run, in this order")
    parser.add_argument("--data", type=Path, help="folder of real data sets; without it, and $DISTDL_DATA, noise")
    parser.add_argument("--json", type=Path, help="figures; by default benchmarks/results/gpu_DEVICE_DATE.json")
    parser.add_argument("--rehearse", action="store_true", help="run small parts on the CPU: the figures mean nothing")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = options.data or (Path(os.environ["DISTDL_DATA"]) if os.environ.get("DISTDL_DATA") else None)
    if options.part:
        return run_part(options.part, Setting(toy=options.rehearse, data=data), options.figures)
    wanted = options.parts.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        print(f"error: unknown part {unknown[0]}; the parts are {',  '.join(PARTS)}", file=sys.stderr)
        return 2
    device = gpu()
    if device is None and not options.rehearse:
        print(
            "error: no GPU: torch.cuda.is_available() is False; --rehearse shows that the parts work", file=sys.stderr
        )
        return 2
    return run_all(wanted, "rehearsal on the CPU" if options.rehearse else str(device), options, data)


def gpu() -> str | None:
    """Return the GPU's name, queried in a separate process, so that this one has no CUDA context."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.split("\n")
    return lines[-2] if len(lines) > 1 and lines[-2] else None


def run_all(wanted: list[str], device: str, options: argparse.Namespace, data: Path | None) -> int:
    """Run the parts in order within the total time limit; then print one table and write the JSON."""
    began, parts = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": package_path(Path(folder)), "PYTHONUNBUFFERED": "1"}
        for name in wanted:
            left_s = TOTAL_S - (time.monotonic() - began)
            figures = Path(folder) / f"{name}.json"
            argv = [sys.executable, __file__, "--part", name, "--figures", str(figures)]
            argv += ["--rehearse"] * options.rehearse + (["--data", str(data)] if data else [])
            limit_s = REHEARSAL_S if options.rehearse else min(PARTS[name].limit_s, left_s)
            parts[name] = part_in_process(argv, figures, limit_s, environment)
            status = parts[name].get("failed") or "done"
            print(f"[{time.monotonic() - began:5.0f} s] {name}: {status}", file=sys.stderr, flush=True)
    without = [name for module, name in OPTIONAL.items() if not importable(module)]
    report = {
        "device": device,
        "machine": machine(),
        "versions": versions(*PACKAGES),
        "without": without,
        "seconds": time.monotonic() - began,
        "parts": parts,
    }
    slug = "".join(letter if letter.isalnum() else "-" for letter in device.lower())
    file = options.json or RESULTS / f"gpu_{slug}_{time.strftime('%Y-%m-%d')}.json"
    if options.json or not options.rehearse:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"figures: {file}", file=sys.stderr)
    print(table(report))
    return 1 if any("failed" in part for part in parts.values()) else 0


def part_in_process(argv: list[str], figures: Path, limit_s: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run one part. Returns its figures, or the reason why there are none. After the time limit it is killed."""
    if limit_s < 5:
        return {"failed": "no time remained"}
    began = time.monotonic()
    process = subprocess.Popen(
        argv,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        last = output.strip().splitlines()[-1:] or ["no output"]
        return {"failed": f"longer than its {limit_s:.0f} s; last output: {last[0][-150:]}", "log": output[-4000:]}
    outcome = {"seconds": time.monotonic() - began}
    if process.returncode or not figures.is_file():
        last = output.strip().splitlines()[-1:] or ["no output"]
        return outcome | {"failed": last[0][-200:], "log": output[-4000:]}
    return outcome | json.loads(figures.read_text(encoding="utf-8"))


def run_part(name: str, setting: Setting, file: Path) -> int:
    """Run one part in this process and write its outcome to `file`."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = PARTS[name].run(setting, Path(folder))
    file.write_text(json.dumps({"rows": outcome.rows, "figures": outcome.figures}), encoding="utf-8")
    return 0


def package_path(folder: Path) -> str:
    """Return a PYTHONPATH with a folder that contains `distdl` and its profiles, with the layout of an installation."""
    package = folder / "package" / "distdl"
    package.mkdir(parents=True)
    for entry in (ROOT / "distdl").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    (package / "profiles").symlink_to(ROOT / "profiles")
    return os.pathsep.join(filter(None, [str(folder / "package"), os.environ.get("PYTHONPATH")]))


def importable(module: str) -> bool:
    """Whether a module is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def table(report: Mapping[str, Any]) -> str:
    """Table of all figures, 100 columns wide."""
    rows = []
    for name, part in report["parts"].items():
        seconds = f"{part['seconds']:.0f} s" if "seconds" in part else ""
        for number, (figure, value) in enumerate(part.get("rows", [["did not run", part.get("failed", "")]])):
            rows.append((name if number == 0 else "", figure, value, seconds if number == 0 else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{report['device']}; {report['machine']}; {report['versions']}",
        f"not installed: {', '.join(report['without']) or 'nothing'}; {report['seconds']:.0f} s in all",
        "",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Everything that needs a GPU, in one command of under nine minutes: what a GPU lent for a few minutes can tell.

    python benchmarks/gpu.py [--parts train,nvml,...] [--data FOLDER] [--json FILE] [--rehearse]

Each part is a process of its own with a time limit of its own: one that fails, hangs or lacks a package costs the
others nothing. It needs no network and no installed distdl, prints one table last, and writes its figures as JSON.
Without a GPU it says so and exits 2; `--rehearse` then runs the parts on the CPU, small, which shows that they work
and measures nothing.
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
WHOLE_S, REHEARSAL_S = 525.0, 3600.0
"""Of all parts together; and of each on the CPU, where nobody waits for the machine."""
PACKAGES = ("torch", "torchvision", "nvidia-ml-py", "numpy", "scipy", "tyro", "pydantic", "tomli_w", "rich", "pillow")
WISHED = {"nvidia.dali": "DALI", "tyro": "tyro", "pydantic": "pydantic", "tomli_w": "tomli-w", "psutil": "psutil"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in this order")
    parser.add_argument("--data", type=Path, help="folder of real data sets; without it, and $DISTDL_DATA, noise")
    parser.add_argument("--json", type=Path, help="figures; by default benchmarks/results/gpu_DEVICE_DATE.json")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, small: no figure of it means anything")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = options.data or (Path(os.environ["DISTDL_DATA"]) if os.environ.get("DISTDL_DATA") else None)
    if options.part:
        return run_part(options.part, Setting(toy=options.rehearse, data=data), options.figures)
    wanted = options.parts.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        print(f"error: no part is called {unknown[0]}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    device = gpu()
    if device is None and not options.rehearse:
        print(
            "error: no GPU: torch.cuda.is_available() is False; --rehearse shows that the parts work", file=sys.stderr
        )
        return 2
    return run_all(wanted, "rehearsal on the CPU" if options.rehearse else str(device), options, data)


def gpu() -> str | None:
    """The GPU's name, asked in a process of its own so that this one holds no CUDA context beside the parts."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.split("\n")
    return found[-2] if len(found) > 1 and found[-2] else None


def run_all(wanted: list[str], device: str, options: argparse.Namespace, data: Path | None) -> int:
    """Run the parts in order, within the whole's time; then one table and the JSON."""
    began, parts = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": package_path(Path(folder)), "PYTHONUNBUFFERED": "1"}
        for name in wanted:
            left_s = WHOLE_S - (time.monotonic() - began)
            figures = Path(folder) / f"{name}.json"
            words = [sys.executable, __file__, "--part", name, "--figures", str(figures)]
            words += ["--rehearse"] * options.rehearse + (["--data", str(data)] if data else [])
            limit_s = REHEARSAL_S if options.rehearse else min(PARTS[name].limit_s, left_s)
            parts[name] = part_in_process(words, figures, limit_s, environment)
            said = parts[name].get("failed") or "done"
            print(f"[{time.monotonic() - began:5.0f} s] {name}: {said}", file=sys.stderr, flush=True)
    without = [name for module, name in WISHED.items() if not importable(module)]
    whole = {
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
        file.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        print(f"figures: {file}", file=sys.stderr)
    print(table(whole))
    return 1 if any("failed" in part for part in parts.values()) else 0


def part_in_process(words: list[str], figures: Path, limit_s: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """One part's figures, or why there are none. Its whole process group ends with its time."""
    if limit_s < 5:
        return {"failed": "no time was left"}
    began = time.monotonic()
    process = subprocess.Popen(
        words,
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
        last = output.strip().splitlines()[-1:] or ["nothing said"]
        return {"failed": f"longer than its {limit_s:.0f} s; last said: {last[0][-150:]}", "log": output[-4000:]}
    found = {"seconds": time.monotonic() - began}
    if process.returncode or not figures.is_file():
        last = output.strip().splitlines()[-1:] or ["nothing said"]
        return found | {"failed": last[0][-200:], "log": output[-4000:]}
    return found | json.loads(figures.read_text(encoding="utf-8"))


def run_part(name: str, setting: Setting, file: Path) -> int:
    """In the part's own process."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = PARTS[name].run(setting, Path(folder))
    file.write_text(json.dumps({"rows": outcome.rows, "figures": outcome.figures}), encoding="utf-8")
    return 0


def package_path(folder: Path) -> str:
    """A folder in which `distdl` is whole with its profiles, as an installation would lay it out."""
    package = folder / "package" / "distdl"
    package.mkdir(parents=True)
    for entry in (ROOT / "distdl").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    (package / "profiles").symlink_to(ROOT / "profiles")
    return os.pathsep.join(filter(None, [str(folder / "package"), os.environ.get("PYTHONPATH")]))


def importable(module: str) -> bool:
    """Whether a module is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def table(whole: Mapping[str, Any]) -> str:
    """All figures, in 100 columns."""
    rows = []
    for name, part in whole["parts"].items():
        seconds = f"{part['seconds']:.0f} s" if "seconds" in part else ""
        for number, (figure, value) in enumerate(part.get("rows", [["did not run", part.get("failed", "")]])):
            rows.append((name if number == 0 else "", figure, value, seconds if number == 0 else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{whole['device']}; {whole['machine']}; {whole['versions']}",
        f"went without: {', '.join(whole['without']) or 'nothing'}; {whole['seconds']:.0f} s in all",
        "",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

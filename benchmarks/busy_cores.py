"""Training speed while other programs keep cores busy, by wait policy, number of threads and pinning of ranks.

Each round trains the digits CNN for a few steps with libgomp's default busy wait, with distdl's short one, and with one
thread per rank, in turn; on one rank, and on two with and without pinning. With --loops 0 it shows the cost of the
short wait on an idle machine. Other load on the machine is added to this, so compare ratios within rounds.

    python benchmarks/busy_cores.py [--loops 2] [--repeats 5] [--steps 60]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from timing import interleaved, markdown_table, ratios, spread, write_result

LIBGOMP = {"GOMP_SPINCOUNT": "300000"}
"""libgomp's default where there are as many cores as threads."""
ALWAYS_PINNED = (
    "import sys; from distdl.runtime import cores; from distdl.cli import train; "
    "cores.BUSY = 1e9; sys.exit(train.main())"
)


def images_per_s(steps: int, ranks: int, *argv: str, env: dict[str, str] | None = None, pinned: bool = False) -> float:
    """Images per second of a training of `steps` steps."""
    with tempfile.TemporaryDirectory() as folder:
        start = ["-c", ALWAYS_PINNED] if pinned else ["-m", "distdl.train"]
        options = ["--profile", "digits", "--max-steps", str(steps), "--evaluate-every", "99", "--progress", "none"]
        command = [sys.executable, *start, *options, "--telemetry.hz", "0", "--out", f"{folder}/run", *argv]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(random.randrange(15_000, 32_000))}
        place |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)} if ranks > 1 else {}
        processes = [
            subprocess.Popen(
                command,
                env=os.environ | (place | {"RANK": str(k), "LOCAL_RANK": str(k)} if ranks > 1 else {}) | (env or {}),
                stdout=subprocess.DEVNULL,
            )
            for k in range(ranks)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit(f"a training failed: {' '.join(command)}")
        return json.loads(Path(folder, "run", "result.json").read_text(encoding="utf-8"))["images_per_s"]


def table(figures: dict[str, Sequence[float]], to: str) -> str:
    """Speed of each subject, and its ratio to the speed of `to` in the same round."""
    relative = ratios(figures, to)
    rows = [[name, spread(values, 0), spread(relative[name], 2)] for name, values in figures.items()]
    return markdown_table(["training", "images per second", f"relative to: {to}"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=2, help="busy loops to run during the training")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    steps, one_thread = options.steps, ("--compute.threads", "1")
    subjects = {
        "1 rank, libgomp's default wait": lambda: images_per_s(steps, 1, env=LIBGOMP),
        "1 rank": lambda: images_per_s(steps, 1),
        "1 rank, 1 thread": lambda: images_per_s(steps, 1, *one_thread),
        "2 ranks, libgomp's default wait, pinned": lambda: images_per_s(steps, 2, env=LIBGOMP, pinned=True),
        "2 ranks, pinned": lambda: images_per_s(steps, 2, pinned=True),
        "2 ranks": lambda: images_per_s(steps, 2),
    }
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.loops)]
    load_at_start = os.getloadavg()[0]
    try:
        figures = interleaved(subjects, options.repeats)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    text = (
        f"{options.loops} busy loops during the training, {options.repeats} rounds, median (least to greatest). Load "
        f"average of the machine: {load_at_start:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.\n\n"
        f"{table(figures, '1 rank, 1 thread')}"
    )
    print(text)
    print(write_result(f"busy_cores_{options.loops}", "cpu", text, "torch", "distdl"))


if __name__ == "__main__":
    main()

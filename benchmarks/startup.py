"""How long `python -m distdl.train --profile digits` takes to its first step, beyond `import torch`.

Each round times three fresh interpreters in turn: one that only imports torch, one that trains a single step, and
`distdl --help`. The difference of the first two is what distdl adds: a whole run of one step, with its evaluation,
checkpoint and closing table.

    python benchmarks/startup.py [--repeats 7]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import interleaved, markdown_table, spread, write_result


def seconds(*words: str) -> float:
    """Wall time of a fresh interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def one_step() -> float:
            out = Path(folder) / str(time.time_ns())
            return seconds("-m", "distdl.train", "--profile", "digits", "--max-steps", "1", "--out", str(out))

        subjects = {
            "import torch": lambda: seconds("-c", "import torch"),
            "distdl.train, one step, whole run": one_step,
            "distdl --help": lambda: seconds("-m", "distdl.cli", "--help"),
        }
        interleaved(subjects, 1)  # what the disk has to read, it reads now
        figures = interleaved(subjects, options.repeats)
    added = [a - b for a, b in zip(figures["distdl.train, one step, whole run"], figures["import torch"], strict=True)]
    rows = [[name, spread(values, 2)] for name, values in figures.items()]
    rows.append(["one step less import torch", spread(added, 2)])
    table = markdown_table(["what", "seconds: median (range)"], rows)
    print(table)
    print(write_result("startup", "cpu", f"{options.repeats} rounds, interleaved, files cached.\n\n{table}", "torch"))


if __name__ == "__main__":
    main()

"""Training time of the profile mnist-fast to 99.12 %: five seeds, two cores, time and accuracy of each run.

The published run took 610 s on one GPU and 156 s on four for that accuracy.

    python benchmarks/mnist_fast.py [--seeds 5] [--ranks 1]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import markdown_table, spread, write_result


def train(seed: int, ranks: int, out: Path) -> dict:
    """Run the profile in separate processes. Returns its result.json."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    argv = ["--profile", "mnist-fast", "--seed", str(seed), "--out", str(out), "--progress", "none"]
    if ranks > 1:
        argv += ["--data.batch-size", str(128 // ranks)]
    subprocess.run([sys.executable, *launcher, "-m", "distdl.train", *argv], check=True)
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [train(seed, options.ranks, Path(folder) / str(seed)) for seed in range(options.seeds)]
    rows = [
        [str(seed), f"{result['test']['accuracy']:.2%}", f"{result['train_s']:.1f}", f"{result['evaluate_s']:.1f}"]
        for seed, result in enumerate(results)
    ]
    accuracies = [result["test"]["accuracy"] * 100 for result in results]
    seconds = [result["train_s"] for result in results]
    table = markdown_table(["seed", "test accuracy", "training s", "evaluation s"], rows)
    text = (
        f"{options.ranks} process(es) on the cores of the machine, n = {options.seeds} seeds.\n\n{table}\n\n"
        f"Test accuracy, median (range): {spread(accuracies, 2)} %. Training time: {spread(seconds, 1)} s.\n"
        f"Median at or above 99.12 %: {'yes' if statistics.median(accuracies) >= 99.12 else 'no'}."
    )
    print(text)
    print(write_result("mnist_fast", "cpu", text, "torch", "distdl"))


if __name__ == "__main__":
    main()

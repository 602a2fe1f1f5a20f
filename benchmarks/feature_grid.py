"""What it takes to try four learning rates on a feature extractor instead of one, its features computed once.

Each round trains, in turn and from nothing: one rate; four rates; four rates where the features are there from before;
and one rate the usual way, by `distdl.train` with all but the last layer frozen, which computes features anew in every
epoch. Network and set: ImageNet's darknet-tiny on Caltech-101 at 64 x 64 pixels.

    DISTDL_DATA=FOLDER python benchmarks/feature_grid.py [--repeats 3] [--epochs 10]
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from timing import interleaved, markdown_table, ratios, spread, write_result

from distdl.cli.train import main as train
from distdl.studies.features import extract as features

RATES = (0.1, 0.01, 0.001, 0.0001)


def words(epochs: int) -> tuple[str, ...]:
    """Of the training: 200 images to learn from, 534 to validate, 529 to test."""
    data = ("--data.image-size", "64", "--data.loader", "resident", "--data.limit", "200")
    often = ("--epochs", str(epochs), "--evaluate-every", "5")
    return ("--profile", "darknet-caltech101", *data, *often, "--compute.device", "cpu")


def seconds(folder: Path, said: Sequence[str], rates: Sequence[float]) -> float:
    """Of a grid in `folder`, whose features are computed if they are not there."""
    folder.mkdir(exist_ok=True)
    since = time.perf_counter()
    features.grid(folder, {"words": said, "rates": rates, "seeds": 1})
    return time.perf_counter() - since


def seconds_of_training(folder: Path, said: Sequence[str]) -> float:
    """Of one training with the features frozen, evaluated in each epoch as the grid is."""
    quiet = ("--progress", "none", "--telemetry.hz", "0", "--checkpoint.every-epochs", "0")
    since = time.perf_counter()
    if train([*said, *quiet, "--model.trainable-features", "False", "--out", str(folder)]):
        raise SystemExit("the training failed")
    return time.perf_counter() - since


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    said = words(options.epochs)
    with tempfile.TemporaryDirectory() as scratch:

        def new() -> Path:
            return Path(scratch) / str(time.time_ns())

        there = new()
        seconds(there, said, RATES)  # imports, statistics, and the features that one subject finds
        subjects = {
            "one rate": lambda: seconds(new(), said, RATES[:1]),
            "four rates": lambda: seconds(new(), said, RATES),
            "four rates, features there": lambda: seconds(there, said, RATES),
            "one rate by distdl.train": lambda: seconds_of_training(new(), said),
        }
        figures = interleaved(subjects, options.repeats)
    shares = ratios(figures, "one rate")
    rows = [[name, spread(values, 2), spread(shares[name], 2)] for name, values in figures.items()]
    worst = max(shares["four rates"])
    text = (
        f"{options.epochs} epochs, {options.repeats} rounds; medians (least to greatest).\n\n"
        + markdown_table(["grid", "seconds", "over one rate"], rows)
        + f"\n\nBar: four rates in less than twice one rate's time. {'Kept' if worst < 2 else 'Not kept'}: "
        f"{worst:.2f} times at most."
    )
    print(text)
    print(write_result("feature_grid", "cpu", text, "torch"))


if __name__ == "__main__":
    main()

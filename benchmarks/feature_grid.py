"""Time of a search over four learning rates, instead of one, with the features of a frozen network computed once.

Each round trains, in turn and from scratch: one learning rate; four learning rates; four with cached features; and one
in the usual way, by `distdl.train` with all but the last layer frozen, which computes features again in every epoch.
Network and data set: ImageNet's darknet-tiny on Caltech-101 at 64 x 64 pixels.

    DISTDL_DATA=FOLDER python benchmarks/feature_grid.py [--repeats 3] [--epochs 10]
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from timing import interleaved, markdown_table, ratios, spread, write_result

from distdl.cli.train import main as train
from distdl.core.profiles import Recipe
from distdl.launchers.job import arguments
from distdl.studies.features import extract as features
from distdl.studies.features.grid import grid_table

RATES = (0.1, 0.01, 0.001, 0.0001)


def recipe_of(epochs: int) -> Recipe:
    """Return the training's configuration: 200 images for training, 534 for validation, 529 for test."""
    return Recipe(
        profile="darknet-caltech101",
        overrides={
            "data.image_size": 64,
            "data.loader": "resident",
            "data.limit": 200,
            "epochs": epochs,
            "evaluate_every": 5,
            "compute.device": "cpu",
        },
    )


def seconds(folder: Path, recipe: Recipe, rates: Sequence[float]) -> float:
    """Measure the wall time of a grid search in `folder`; features are computed if they are missing."""
    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    features.grid(folder, grid_table(recipe, tuple(rates), 1))
    return time.perf_counter() - start


def seconds_of_training(folder: Path, recipe: Recipe) -> float:
    """Measure the wall time of one training with frozen features, evaluated in each epoch like the grid search."""
    quiet = {"progress": "none", "telemetry.hz": 0, "checkpoint.every_epochs": 0}
    start = time.perf_counter()
    if train(arguments(recipe.updated({**quiet, "model.trainable_features": (False,), "out": folder}))):
        raise SystemExit("the training failed")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    recipe = recipe_of(options.epochs)
    with tempfile.TemporaryDirectory() as scratch:

        def new() -> Path:
            return Path(scratch) / str(time.time_ns())

        computed = new()
        seconds(computed, recipe, RATES)  # imports, statistics, and the features for the third subject
        subjects = {
            "one rate": lambda: seconds(new(), recipe, RATES[:1]),
            "four rates": lambda: seconds(new(), recipe, RATES),
            "four rates, cached features": lambda: seconds(computed, recipe, RATES),
            "one rate by distdl.train": lambda: seconds_of_training(new(), recipe),
        }
        figures = interleaved(subjects, options.repeats)
    shares = ratios(figures, "one rate")
    rows = [[name, spread(values, 2), spread(shares[name], 2)] for name, values in figures.items()]
    worst = max(shares["four rates"])
    text = (
        f"{options.epochs} epochs, {options.repeats} rounds; medians (least to greatest).\n\n"
        + markdown_table(["grid", "seconds", "over one rate"], rows)
        + f"\n\nTarget: four rates in less than twice the time of one. {'Reached' if worst < 2 else 'Not reached'}: at "
        f"most {worst:.2f} times."
    )
    print(text)
    print(write_result("feature_grid", "cpu", text, "torch"))


if __name__ == "__main__":
    main()

"""Losses and accuracies by step, from the study's trainings and from imported logs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core.errors import UserError
from distdl.core.files import is_row, read_rows
from distdl.core.run_files import CONFIG, METRICS, RESULT
from distdl.core.schema import finite
from distdl.core.tables import read_csv
from distdl.core.userfiles import read_toml
from distdl.core.validation import check
from distdl.perf.arrays import Array
from distdl.perf.learning.read_losses import read_losses
from distdl.studies.base import Outcome

MOST_LOSSES = 4000
"""Largest number of losses of an imported curve: enough for a fit, and few enough for result.json."""
PRECISIONS = ("fp32", "bf16", "tf32")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One training."""

    network: str
    device: str
    seed: int
    steps: Array
    losses: Array
    drops: tuple[float, ...] | None
    """Steps after which the learning rate fell, if known."""
    accuracy: tuple[tuple[float, float], ...]
    """(step, accuracy) of each evaluation, in order; without the final test of the best weights."""
    imported: bool = False

    @property
    def name(self) -> str:
        return f"{self.network} on {self.device}" + (f", seed {self.seed}" if self.seed else "")

    @property
    def depth(self) -> int:
        return depth(self.network)


def depth(network: str) -> int:
    """Number of layers of a network, from the digits at the end of its name.

    Raises:
        UserError: if there are no digits.
    """
    digits = re.search(r"(\d+)$", network)
    if not digits:
        raise UserError(f'network "{network}" has no depth in its name; expected a name such as resnet20')
    return int(digits[1])


def device_overrides(device: str) -> dict[str, str]:
    """Overrides of a training on a device type such as cpu or cuda:bf16.

    Raises:
        ValueError: if the device type is not known.
    """
    kind, _, precision = device.partition(":")
    precision = precision or "fp32"
    if kind not in ("cpu", "cuda") or precision not in PRECISIONS:
        raise ValueError(f'devices: "{device}" must be cpu or cuda, optionally with :bf16 or :tf32')
    return {"compute.device": kind, "compute.precision": precision}


def split_log(log: str) -> tuple[str, str]:
    """Device type and folder of "TYPE=FOLDER".

    Raises:
        ValueError: if the text does not have this form.
    """
    device, equals, folder = log.partition("=")
    if not equals or not folder or not re.fullmatch(r"[\w.:-]+", device):
        raise ValueError(f'logs: "{log}" is not TYPE=FOLDER, such as k80=logs/k80')
    return device, folder


def take(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Read the logs of one device type. Returns the content of the trial's result.json.

    Args:
        folder: folder of the trial; nothing is written there.
        table: settings of the trial, `device` and `folder`.
    Raises:
        UserError: if there are no logs, or one cannot be read.
    """
    source = Path(table["folder"])
    if not source.is_dir():
        raise UserError(f"{source}, the logs of {table['device']}, is not a folder")
    files = sorted(source.glob("*.csv"))
    runs = sorted(path.parent for path in source.glob(f"*/{METRICS}"))
    if not files and not runs:
        raise UserError(f"{source} has no logs of {table['device']}: it contains neither NETWORK.csv nor run folders")
    curves = [_from_csv(file) for file in files] + [_from_run(run) for run in runs]
    return {"status": "completed", "device": table["device"], "curves": curves}


def _from_csv(file: Path) -> dict[str, Any]:
    steps, losses, drops = read_losses(file)
    depth(file.stem)
    rows = ((row, row.optional_number("accuracy")) for row in read_csv(file, ("step",)))
    accuracy = [[row.number("step"), value] for row, value in rows if value is not None]
    return _thin(file.stem, steps, losses, drops, accuracy)


def _from_run(run: Path) -> dict[str, Any]:
    model = read_toml(run / CONFIG).get("model", {})
    name = model.get("name", run.name) if isinstance(model, dict) else model
    network = check(str, name, "model.name", where=str(run / CONFIG), strict=True)
    steps, losses, drops = read_losses(run)
    return _thin(network, steps, losses, drops, _accuracy(run))


def _thin(network: str, steps: Array, losses: Array, drops: Any, accuracy: list[list[float]]) -> dict[str, Any]:
    """Reduce a curve to at most `MOST_LOSSES` points, by means over consecutive losses."""
    group = -(-len(steps) // MOST_LOSSES)
    length = len(steps) // group * group
    steps, losses = (values[:length].reshape(-1, group).mean(1) for values in (steps, losses))
    return {
        "network": network,
        "steps": steps.tolist(),
        "losses": losses.tolist(),
        "drops": drops,
        "accuracy": accuracy,
    }


def _accuracy(run: Path) -> list[list[float]]:
    """[step, accuracy] of each evaluation of the validation split, or of the test split if there is none."""
    rows = [row for row in read_rows(run / METRICS) if is_row(row) and finite(row.get("accuracy"))]
    split = "validation" if any(row["kind"] == "validation" for row in rows) else "test"
    return [[float(row["step"]), float(row["accuracy"])] for row in rows if row["kind"] == split]


def curves(outcomes: Iterable[Outcome]) -> list[Curve]:
    """Return the curves of all completed trainings and imports, sorted by device, depth and seed."""
    loaded: list[Curve] = []
    for outcome in outcomes:
        labels = outcome.trial.labels
        if not outcome.completed or labels["part"] not in ("training", "import"):
            continue
        device = str(labels["device"])
        rows: list[dict[str, Any]]
        if labels["part"] == "import":
            rows, seed = outcome.result["curves"], 0
        else:
            steps, losses, drops = read_losses(outcome.folder)
            curve = {"network": labels["network"], "steps": steps, "losses": losses, "drops": drops}
            rows, seed = [curve | {"accuracy": _accuracy(outcome.folder)}], int(labels["seed"])
        loaded += [
            Curve(
                network=row["network"],
                device=device,
                seed=seed,
                steps=np.asarray(row["steps"], float),
                losses=np.asarray(row["losses"], float),
                drops=None if row["drops"] is None else tuple(row["drops"]),
                accuracy=tuple((float(step), float(value)) for step, value in row["accuracy"]),
                imported=labels["part"] == "import",
            )
            for row in rows
        ]
    return sorted(loaded, key=lambda curve: (curve.device, curve.depth, curve.seed))


def ps_folders(outcomes: Iterable[Outcome]) -> list[Path]:
    """Return the folders of the completed parameter-server runs, without the recordings."""
    return [
        outcome.folder
        for outcome in outcomes
        if outcome.completed and outcome.trial.labels["part"] == "ps" and (outcome.folder / RESULT).is_file()
    ]

"""Losses from metrics.jsonl and from CSV files, and the messages about bad files."""

import json
from pathlib import Path

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.perf.learning.read_losses import read_losses


def write(folder: Path, text: str, name: str = "losses.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


ROWS = [{"step": 10 * i, "kind": "train", "loss": 1 / i, "lr": 0.1 if i < 5 else 0.01} for i in range(1, 9)]


def test_losses_and_learning_rate_drops_of_a_run_are_read(tmp_path: Path) -> None:
    rows = [*ROWS[:4], {"step": 40, "kind": "test", "accuracy": 0.5}, *ROWS[4:]]
    file = write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 90, "lo', "metrics.jsonl")
    steps, losses, drops = read_losses(file)
    assert steps.tolist() == list(range(10, 90, 10)) and losses[1] == 0.5 and drops == [40]
    assert np.array_equal(read_losses(tmp_path)[0], steps)


def test_losses_of_a_csv_file_are_read(tmp_path: Path) -> None:
    steps, losses, drops = read_losses(write(tmp_path, "epoch,loss,step\n0,2,1\n0,1,2\n"))
    assert steps.tolist() == [1, 2] and losses.tolist() == [2, 1] and drops is None


BAD_LOSSES = {
    ("a.csv", ""): "is empty; expected columns: step, loss",
    ("a.csv", "step,loss\n"): "has no training losses",
    ("a.csv", "step,los\n1,2\n"): 'line 1: column loss is missing; did you mean "los"',
    ("a.csv", "step,loss\n1,2\n2,nan\n"): "line 3: loss is nan; it must be finite",
    ("a.csv", "step,loss\n1,2\n2,-1\n"): "line 3: step 2 has loss -1; losses must be positive",
    ("a.csv", "step,loss\n2,2\n2,1\n"): "line 3: step 2 comes after step 2; steps must increase",
    ("a.csv", "step,loss\n1,2,3\n"): "line 2: 3 values under 2 column names",
    ("m.jsonl", '{"step": 1}\n'): "line 1: loss is missing",
    ("m.jsonl", "[1]\n"): "line 1: a JSON object is expected",
    ("m.jsonl", "{\n" + json.dumps(ROWS[0]) + "\n"): "line 1: not JSON",
    ("m.jsonl", '{"step": 1, "kind": "test"}\n'): "has no training losses",
}


@pytest.mark.parametrize(("name", "text"), BAD_LOSSES)
def test_an_error_names_the_file_and_line_of_a_bad_loss(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UserError) as error:
        read_losses(write(tmp_path, text, name))
    assert BAD_LOSSES[name, text] in str(error.value) and name in str(error.value)

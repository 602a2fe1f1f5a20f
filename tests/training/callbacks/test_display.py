"""The first and last lines of a training: data set, warnings, and the table of results."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from distdl.cli.train import main
from distdl.core.console import PlainConsole
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.training.callbacks.display import Display, split_sizes
from distdl.training.events import Training
from jobs import Ranks

LABEL = "[red]\x1b[31m[dog"


def photos(folder: Path, count: int) -> Path:
    for split in ("train", "test"):
        for label in ("cat", LABEL):
            for number in range(count):
                file = folder / split / label / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    (folder / "train" / LABEL / "[x\x1b].txt").touch()
    return folder


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wrap lines."""
    monkeypatch.setenv("COLUMNS", "300")


def first_lines(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    common = ["--profile", "digits", "--data.name", str(folder), "--data.image-size", "8", "--data.loader", "torch"]
    assert (
        main([*common, "--data.workers", "0", "--compute.threads", "1", "--epochs", "1", "--out", "run", *options]) == 0
    )
    return capsys.readouterr().out.splitlines()


def test_the_first_lines_state_the_images_per_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos(tmp_path / "se[t", 8)
    lines = first_lines(folder, capsys, "--data.validation", "0.5", "--data.batch-size", "4")
    assert lines[0].startswith(f"digits: digits-cnn on {folder}, single, 1 rank")
    assert (
        lines[1] == "train 8, validation 8 (held out from training by data.validation 0.5), test 16 images, 2 classes"
    )
    assert any(r"named like images: [x\x1b].txt" in line for line in lines)
    warning = "warning: an epoch has 2 steps: 8 training images in global batches of 4"
    assert any(line.startswith(warning) for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_an_epoch_with_enough_steps_gives_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = first_lines(photos(tmp_path / "set", 10), capsys, "--data.batch-size", "2")
    assert lines[1] == "train 20, test 20 images, 2 classes"
    assert not any("warning" in line for line in lines)


def test_a_validation_split_of_the_data_set_is_not_held_out_from_training() -> None:
    split = ResidentSplit(labels=np.zeros(1234, np.int64), images=np.zeros((1234, 1, 1, 1), np.uint8))
    dataset = DataSet(name="", classes=("a",), train=split, validation=split, test=split)
    assert split_sizes(dataset, 0.0) == "train 1,234, validation 1,234, test 1,234 images, 1 class"


def test_the_last_table_has_additional_metrics(tmp_path: Path) -> None:
    argv = ["--max-steps", "2", "--metrics", "top-k", "--progress", "plain", "--telemetry.hz", "0"]
    job = Ranks([*argv, "--compute.threads", "1", "--out", str(tmp_path / "run")])
    assert job.wait() == [0], job.text
    value = json.loads((tmp_path / "run" / "result.json").read_text())["test"]["top-k"]
    assert f"top-k {value:.4f}" in " ".join(job.text.split())


@pytest.mark.parametrize(("terminal", "lines"), [(True, 3), (False, 1)])
def test_a_long_warning_is_wrapped_on_a_terminal_only(
    terminal: bool, lines: int, capsys: pytest.CaptureFixture
) -> None:
    console = PlainConsole(force_terminal=terminal, width=80, color_system=None)
    Display("plain", console).warn(cast(Training, None), "a sentence of several parts " * 8)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    assert all(line.split()[-1] in ("a", "sentence", "of", "several", "parts") for line in printed), "wrapped at spaces"


def test_the_rate_is_that_since_the_start_of_this_process(make: Callable) -> None:
    trainer = make()
    trainer.progress.images, trainer.progress.elapsed_s = 1000, 7.0  # before a resume
    display = Display("live", PlainConsole(file=io.StringIO(), force_terminal=True, width=100))
    display.begin(trainer)
    assert display._rate(trainer) == 0.0
    trainer.progress.images += 300
    trainer.progress.elapsed_s += 2.0
    assert display._rate(trainer) == 150.0
    display.step_end(trainer, torch.tensor(0.5))
    assert display._bar is not None
    (task,) = display._bar.tasks
    assert task.fields["text"] == "loss 0.5000 150 img/s"
    display._bar.stop()

"""Failures end a job quickly, with a reason for the user, and keep every valid checkpoint."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core.checkpoints import find
from distdl.core.manifest import published, step_of
from jobs import QUIET, Ranks, torchrun_command, train, wait_for


def fails(command: list[str], *, code: int = 2, ranks: int = 1) -> str:
    """Run a training that must end with `code`, and return its line on stderr."""
    job = Ranks([*command, *QUIET], ranks=ranks)
    codes, errors = job.wait(), job.text
    assert code in codes, (codes, errors)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert lines, errors
    assert "Traceback" not in errors
    return lines[0]


@pytest.mark.parametrize("how", ["raise", "die"])
def test_a_failed_rank_ends_the_job_and_is_named(tmp_path: Path, how: str) -> None:
    script = [*torchrun_command(2)[:-2], str(Path(__file__).with_name("raising.py")), str(tmp_path / "run"), how]
    done = subprocess.run(script, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1
    assert (tmp_path / "run" / "failed").exists()
    if how == "raise":
        summary = done.stderr[done.stderr.index("Root Cause") :]
        assert "rank      : 1" in summary and "raising.py" in summary
        assert "ArithmeticError: rank 1 cannot continue" in summary
    else:  # torchrun sorts failures by whole seconds: the rank that then loses its peer may be the first
        failures = re.split(r"\[\d+\]:", done.stderr[done.stderr.index("raising.py FAILED") :])
        assert any("rank      : 1" in failure and "SIGKILL" in failure for failure in failures)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


def test_a_nan_loss_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["--optim.name", "sgd", "--optim.weight-decay", "0", "--out", str(run), "--resume", "auto"]
    train([*command, "--epochs", "1"])
    good = find(run, warn=pytest.fail)
    line = fails([*command, "--epochs", "3", "--optim.lr", "1e30"], code=1)
    assert "the loss of step " in line
    assert "is not a finite number" in line
    assert find(run, warn=pytest.fail) == good
    assert json.loads((run / "result.json").read_text())["status"] == "failed"


def test_a_nan_loss_ends_every_rank(tmp_path: Path) -> None:
    command = ["--optim.name", "sgd", "--optim.weight-decay", "0", "--optim.lr", "1e30", "--out", str(tmp_path / "run")]
    assert Ranks([*command, *QUIET], ranks=2).wait() == [1, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("free_bytes", [0, 24 * 1024], ids=["no page left", "not enough for a checkpoint"])
def test_a_full_disk_is_a_one_line_error_and_keeps_the_last_checkpoint(small_disk: Path, free_bytes: int) -> None:
    run = small_disk / "run"
    command = ["--out", str(run), "--model.name", "mnist-fast", "--data.image-size", "16", "--resume", "auto"]
    train(["--epochs", "1", *command])
    good = find(run, warn=pytest.fail)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(b"x" * (free - free_bytes))
    job = Ranks(["--epochs", "2", *command, *QUIET])
    codes = job.wait()
    errors = [line for line in job.text.splitlines() if line.startswith("error: ")]
    assert codes == ([1] if free_bytes else [2])
    assert len(errors) == 1
    assert "No space left" in errors[0]
    assert "Traceback" not in job.text
    assert find(run, warn=pytest.fail) == good


def test_training_continues_after_a_failed_checkpoint(small_disk: Path) -> None:
    """While the disk is full, each checkpoint is a warning; afterwards checkpoints are written again."""
    run, ballast = small_disk / "run", small_disk / "ballast"
    command = ["--out", str(run), "--model.name", "mnist-fast", "--data.image-size", "16", "--log-every-s", "1000"]
    command += ["--epochs", "100000", "--checkpoint.every-steps", "10", "--checkpoint.every-epochs", "0"]
    job = Ranks([*command, *QUIET])
    wait_for(lambda: published(run / "checkpoints"), what="a checkpoint")
    ballast.write_bytes(b"x" * max(shutil.disk_usage(small_disk).free - 24 * 1024, 0))
    wait_for(lambda: "was not written" in job.text, what="the warning")
    assert job.processes[0].is_alive()
    ballast.unlink()
    warned = max(int(step) for step in re.findall(r"checkpoint of step (\d+) was not written", job.text))
    wait_for(lambda: step_of(published(run / "checkpoints")[-1]) > warned + 20, what="later checkpoints")
    os.kill(job.processes[0].pid, signal.SIGTERM)
    assert job.wait() == [75], job.text
    steps = re.findall(r"checkpoint of step (\d+) was not written", job.text)
    assert len(steps) == len(set(steps))
    assert "Traceback" not in job.text
    assert find(run, warn=pytest.fail)


def test_a_run_folder_that_cannot_be_written_is_named() -> None:
    assert "/proc/run" in fails(["--out", "/proc/run"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write an image folder with two classes, with eight training and two test images each."""
    dice = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        for name in ("cats", "dogs"):
            place = tmp_path / "set" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(dice.integers(0, 255, (40, 48, 3), dtype=np.uint8))
                image.save(place / f"{number}.jpg")
    return tmp_path / "set"


def on(folder: Path, out: Path) -> list[str]:
    data = ["--data.name", str(folder), "--data.image-size", "32", "--data.batch-size", "4", "--data.workers", "0"]
    return [*data, "--model.name", "resnet20", "--epochs", "1", "--out", str(out)]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


def test_a_truncated_image_is_named_or_skipped_as_configured(folder: Path, tmp_path: Path) -> None:
    cut_short(folder / "train" / "dogs" / "3.jpg")
    assert "dogs/3.jpg" in fails([*on(folder, tmp_path / "raise"), "--data.loader", "torch"])
    train([*on(folder, tmp_path / "skip"), "--data.on-error", "skip", "--data.loader", "torch"], ranks=2)
    result = json.loads((tmp_path / "skip" / "result.json").read_text())
    assert result["steps"] == 2
    assert len(result["skipped"]) == 1
    assert "dogs/3.jpg" in result["skipped"][0]


def test_a_warning_names_an_empty_class_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "birds").mkdir()
    job = Ranks([*on(folder, tmp_path / "run"), "--progress", "plain", "--telemetry.hz", "0"])
    assert job.wait() in ([0], [2])
    assert "birds" in job.text


def test_fewer_samples_than_ranks_is_an_error(folder: Path, tmp_path: Path) -> None:
    line = fails([*on(folder, tmp_path / "run"), "--data.limit", "2"], ranks=3)
    assert "2" in line
    assert "3 ranks" in line


def test_labels_out_of_range_are_an_error(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 20), ("t10k", 10)):
        header = np.array([0x803, count, 28, 28], dtype=">i4").tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + bytes(count * 784))
        labels = bytes([number % 10 for number in range(count - 1)] + [11])
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], dtype=">i4").tobytes() + labels)
    line = fails(["--profile", "mnist-softmax", "--data.root", str(tmp_path), "--out", str(tmp_path / "run")])
    assert "11" in line
    assert "labels" in line


def test_the_error_for_missing_data_lists_the_searched_places(tmp_path: Path) -> None:
    command = ["--profile", "resnet20-cifar10", "--data.root", str(tmp_path), "--out", str(tmp_path / "run")]
    line = fails(command)
    assert "cifar10" in line
    assert str(tmp_path) in line


def test_a_torchrun_job_reports_a_wrong_key_once(tmp_path: Path) -> None:
    done = subprocess.run([*torchrun_command(2), "--optim.lrr", "1"], capture_output=True, text=True, timeout=60)
    assert done.stderr.count("did you mean --optim.lr?") == 1


def test_startup_imports_no_slow_modules(tmp_path: Path) -> None:
    """Without these modules the first step is within 2 s after `import torch`."""
    code = "import sys\nfrom distdl.cli.train import main\nmain(sys.argv[1:])\nprint(sorted({'torchvision', 'sklearn', "
    code += "'matplotlib', 'pandas', 'tensorboard', 'scipy'} & set(sys.modules)))"
    command = ["--max-steps", "1", *QUIET, "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout

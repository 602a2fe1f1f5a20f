"""Trainings on a data set with unreadable images: they continue without them, and result.json has the number."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import QUIET, Ranks
from numbered_sets import pictures


def image_folder(folder: Path) -> list[Path]:
    """Write two classes of PNG files, 12 for training and 8 for test, with a flipped bit in one file per split."""
    damaged = []
    for part, count in (("train", 12), ("test", 8)):
        for number, image in enumerate(pictures(count)):
            file = folder / part / ("cat", "dog")[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
        damaged.append(file)
    return damaged


def train(folder: Path, loader: str, *argv: str, ranks: int = 1) -> tuple[list[int | None], str]:
    job = Ranks(
        ["--data.name", str(folder), "--data.loader", loader, "--data.workers", "1", "--data.batch-size", "4",
         "--data.image-size", "16", "--model.name", "softmax", "--epochs", "1", "--compute.device", "cpu",
         *argv, *QUIET],
        ranks=ranks,
    )  # fmt: skip
    return job.wait(), job.text


@pytest.mark.parametrize(
    ("loader", "ranks"),
    [
        ("torch", 1),
        pytest.param("resident", 2, marks=pytest.mark.slow),
        pytest.param("dali", 2, marks=pytest.mark.slow),
    ],
)
def test_a_training_omits_unreadable_images(loader: str, ranks: int, tmp_path: Path) -> None:
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    damaged = image_folder(tmp_path / "set")
    run = tmp_path / "run"
    codes, text = train(tmp_path / "set", loader, "--data.on-error", "skip", "--out", str(run), ranks=ranks)
    assert codes == [0] * ranks, text
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["left_out"] == 1
    assert np.isclose(result["test"]["accuracy"] * 7 % 1, 0) or np.isclose(result["test"]["accuracy"] * 7 % 1, 1)
    sentences = "\n".join(result["skipped"])
    assert all(str(file) in sentences for file in damaged)
    assert "is used instead" in sentences and "left out of the evaluation" in sentences


def test_an_unreadable_image_is_a_one_line_error_by_default(tmp_path: Path) -> None:
    damaged = image_folder(tmp_path / "set")
    codes, text = train(tmp_path / "set", "torch", "--out", str(tmp_path / "run"))
    assert codes == [2]  # detected when the mean is measured, before the training starts
    assert not (tmp_path / "run").exists()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(damaged[0]) in errors[0] and "Traceback" not in text


def test_an_evaluation_without_readable_images_is_an_error(tmp_path: Path) -> None:
    image_folder(tmp_path / "set")
    for file in (tmp_path / "set" / "test").rglob("*.png"):
        file.write_text("not an image")
    codes, text = train(tmp_path / "set", "torch", "--data.on-error", "skip", "--out", str(tmp_path / "run"))
    assert codes == [1] and "none of the samples to evaluate on can be read" in text and "Traceback" not in text

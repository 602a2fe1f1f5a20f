"""A training on a set with unreadable images: no image ends the process, and result.json has the number left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import QUIET, Ranks
from numbered_sets import pictures


def image_folder(folder: Path) -> list[Path]:
    """Two classes of PNG files, 12 to train on and 8 to test on; one bit is flipped in one of each part."""
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
def test_a_training_leaves_out_what_it_cannot_read(loader: str, ranks: int, tmp_path: Path) -> None:
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


def test_a_training_ends_with_one_line(tmp_path: Path) -> None:
    damaged = image_folder(tmp_path / "set")
    codes, text = train(tmp_path / "set", "torch", "--out", str(tmp_path / "run"))
    assert codes == [2]  # found when the mean of the set is measured: nothing has begun
    assert not (tmp_path / "run").exists()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(damaged[0]) in errors[0] and "Traceback" not in text


def test_an_evaluation_of_nothing_is_an_error(tmp_path: Path) -> None:
    image_folder(tmp_path / "set")
    for file in (tmp_path / "set" / "test").rglob("*.png"):
        file.write_text("not an image")
    codes, text = train(tmp_path / "set", "torch", "--data.on-error", "skip", "--out", str(tmp_path / "run"))
    assert codes == [1] and "none of the samples to evaluate on can be read" in text and "Traceback" not in text

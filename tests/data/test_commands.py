"""The verbs about data: what they print and draw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.cli import main


def test_list_names_every_set_and_says_which_are_here(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--root", str(data_root)]) == 0
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert "yes" in rows["mnist"] and "yes" in rows["digits"] and "yes" in rows["caltech101"]
    assert "no" in rows["fashion-mnist"] and "yes" not in rows["fashion-mnist"]


@pytest.mark.parametrize("name", ["digits", "gtsrb"])
def test_describe_counts_and_draws(
    name: str, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "new" / "figure.png"
    words = ["data", "describe", name, "--root", str(data_root), "--validation", "0.1", "--figure", str(figure)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    expected = {"digits": ["1,295 images", "360 images", "8 x 8"], "gtsrb": ["1,161 images", "and 23 more", "note:"]}
    assert all(text in shown for text in expected[name])
    pixels = np.asarray(Image.open(figure).convert("RGB"))
    assert pixels.shape[1] > 1000 and pixels.std() > 20


def test_describe_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "describe", "digitz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["data", "describe", "digits", "--figure", str(tmp_path / "figure.nothing")]) == 2
    assert "cannot be written" in capsys.readouterr().err

"""Invalid values in the files of a run or a study: ignored with a note, or refused in one line, but never drawn."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distdl.cli.report import write_report
from distdl.core.errors import UserError
from distdl.core.format import Cell
from distdl.report.content import Axis, Figure, PlotLayer
from distdl.report.figure_files import png, svg
from distdl.report.run_folder import read
from distdl.report.run_page import page
from fuzz.targets import odd_values
from run_folders import write_run

ODD = (
    ("result.json", "utilisation", "9" * 5000, "result.json: invalid values are ignored: utilisation"),
    ("result.json", "images_per_s", 10**400, "result.json: invalid values are ignored: images_per_s"),
    ("result.json", "steps", "many", "result.json: invalid values are ignored: steps"),
    ("metrics.jsonl", "loss", "low", "metrics.jsonl: invalid values are ignored: loss"),
    ("metrics.jsonl", "phases_s", {"backward": 10**400}, "ignored: phases_s.backward"),
    ("metrics.jsonl", "images_per_s", -1, "metrics.jsonl: invalid values are ignored: images_per_s"),
    ("metrics.jsonl", "time_s", True, "1 line is damaged in metrics.jsonl and ignored, of 24"),
    ("metrics.jsonl", "epoch", 10**400, "1 line is damaged in metrics.jsonl and ignored, of 24"),
    ("telemetry.jsonl", "cpu_percent", [1], "telemetry.jsonl: invalid values are ignored: cpu_percent"),
    ("environment.json", "gpus", "many", "environment.json: invalid values are ignored: gpus"),
)


@pytest.mark.parametrize(("file", "key", "value", "note"), ODD)
def test_an_invalid_value_is_omitted_with_a_note(tmp_path: Path, file: str, key: str, value: Any, note: str) -> None:
    run = write_run(tmp_path / "run", rows=12, gpu=False, samples=2)
    first, newline, rest = (run / file).read_text().partition("\n") if file.endswith("l") else ("", "", "")
    table = json.loads(first or (run / file).read_text()) | {key: value}
    (run / file).write_text(json.dumps(table) + newline + rest)
    assert any(note in line for line in page([read(run)]).notes)


def test_text_that_aborts_the_renderer_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=3, gpu=False, samples=0)
    place = {"time_s": 1.0, "step": 1, "epoch": 1, "accuracy": 0.5, "loss": 1.0}
    kinds = ("\x1b[31m", "a\0b", "\ud800", "\uffff", "\u202e")
    with (run / "metrics.jsonl").open("a") as sink:
        sink.writelines(json.dumps(place | {"kind": kind}) + "\n" for kind in kinds)
    done = subprocess.run([sys.executable, "-m", "distdl.cli", "report", str(run)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\x1b[31m" in (run / "report" / "accuracy.svg").read_text()
    assert r"a\x00b" in (run / "report" / "accuracy.csv").read_text()


def test_figures_have_only_values_that_can_be_drawn() -> None:
    column: list[Cell] = [1, 1e101, -(10**400), 1e-101, float("nan"), None, "x", 2.5]
    layer = PlotLayer(mark="line", data={"x": column, "\0": ["a\x1b"] * 8}, y="x", series="\0")
    assert list(layer.data) == ["x", r"\x00"] and layer.series == r"\x00"
    assert layer.data["x"] == [1, None, None, 0.0, None, None, "x", 2.5]
    assert layer.data[r"\x00"] == [r"a\x1b"] * 8
    drawable = [1, 2.5, None]
    assert PlotLayer(mark="line", data={"x": drawable}, y="x").data["x"] is drawable
    assert Axis(title="two\nlines").title == "two\nlines"


def test_a_damaged_study_is_refused_by_report_and_show(tmp_path: Path) -> None:
    study = odd_values.make_study(tmp_path / "study").path
    odd_values.read(study)
    previous_page = (study / "report.html").read_bytes()
    (study / "study.toml").write_text("x = [")
    for command in (lambda: write_report([study]), lambda: odd_values.show(study)):
        with pytest.raises(UserError, match=r"study\.toml is not TOML: "):
            command()
    assert (study / "report.html").read_bytes() == previous_page


TITLES = ("a\\x00b", 'a"b', "a\\", 'a\\"b', "a'`${1}</text>", "\U0001f600" * 300, "x" * 100_000)


@pytest.mark.parametrize("title", TITLES)
def test_any_title_can_be_drawn(title: str) -> None:
    """Titles of axes, columns, series and figures, with numbers where text is expected and the reverse."""
    data: dict[str, list[Cell]] = {
        "x": ["p", 1, None],
        "y": [1e-100, 1e100, "q"],
        title: [title, "b", title],
        "more": [1, 2, 3],
    }
    log = Axis(title=title, scale="log")
    bars = PlotLayer(mark="bars", data=data, series=title, low="y", high="y")
    points = PlotLayer(mark="points", data=data, series=title, low="y", high="y")
    for layer, x in ((bars, Axis(title=title, scale="category")), (points, log)):
        assert png(svg(Figure(name="odd", title=title, caption=title, layers=(layer,), x=x, y=log)))

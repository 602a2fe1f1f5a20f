"""Odd values in the files of a run or a study: left out and named, or refused in one line; never drawn as they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distdl.cli.report import write_report
from distdl.core.errors import UserError
from distdl.report import run_page as runs
from distdl.report.content import Axis, Figure, Layer
from distdl.report.figure_files import png, svg
from distdl.report.run_folder import read
from fuzz.targets import odd_values
from run_folders import write_run

ODD = (
    ("result.json", "utilisation", "9" * 5000, "result.json: values that cannot be right are left out: utilisation"),
    ("result.json", "images_per_s", 10**400, "result.json: values that cannot be right are left out: images_per_s"),
    ("result.json", "steps", "many", "result.json: values that cannot be right are left out: steps"),
    ("metrics.jsonl", "loss", "low", "metrics.jsonl: values that cannot be right are left out: loss"),
    ("metrics.jsonl", "phases_s", {"backward": 10**400}, "left out: phases_s.backward"),
    ("metrics.jsonl", "images_per_s", -1, "metrics.jsonl: values that cannot be right are left out: images_per_s"),
    ("metrics.jsonl", "time_s", True, "1 line is damaged in metrics.jsonl and left out, of 24"),
    ("metrics.jsonl", "epoch", 10**400, "1 line is damaged in metrics.jsonl and left out, of 24"),
    ("telemetry.jsonl", "cpu_percent", [1], "telemetry.jsonl: values that cannot be right are left out: cpu_percent"),
    ("environment.json", "gpus", "many", "environment.json: values that cannot be right are left out: gpus"),
)


@pytest.mark.parametrize(("file", "key", "value", "note"), ODD)
def test_an_odd_value_is_named(tmp_path: Path, file: str, key: str, value: Any, note: str) -> None:
    run = write_run(tmp_path / "run", rows=12, gpu=False, samples=2)
    first, newline, rest = (run / file).read_text().partition("\n") if file.endswith("l") else ("", "", "")
    table = json.loads(first or (run / file).read_text()) | {key: value}
    (run / file).write_text(json.dumps(table) + newline + rest)
    assert [said for said in runs.page([read(run)]).notes if note in said]


def test_text_that_ends_the_library_that_draws_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=3, gpu=False, samples=0)
    place = {"time_s": 1.0, "step": 1, "epoch": 1, "accuracy": 0.5, "loss": 1.0}
    kinds = ("\x1b[31m", "a\0b", "\ud800", "\uffff", "\u202e")
    with (run / "metrics.jsonl").open("a") as sink:
        sink.writelines(json.dumps(place | {"kind": kind}) + "\n" for kind in kinds)
    done = subprocess.run([sys.executable, "-m", "distdl.cli", "report", str(run)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\x1b[31m" in (run / "report" / "accuracy.svg").read_text()
    assert r"a\x00b" in (run / "report" / "accuracy.csv").read_text()


def test_content_holds_only_what_can_be_drawn() -> None:
    column = [1, 1e101, -(10**400), 1e-101, float("nan"), None, "x", 2.5]
    layer = Layer(mark="line", data={"x": column, "\0": ["a\x1b"] * 8}, y="x", series="\0")
    assert list(layer.data) == ["x", r"\x00"] and layer.series == r"\x00"
    assert layer.data["x"] == [1, None, None, 0.0, None, None, "x", 2.5]
    assert layer.data[r"\x00"] == [r"a\x1b"] * 8
    whole = [1, 2.5, None]
    assert Layer(mark="line", data={"x": whole}, y="x").data["x"] is whole
    assert Axis(title="two\nlines").title == "two\nlines"


def test_a_damaged_study_is_refused_as_by_its_other_verbs(tmp_path: Path) -> None:
    study = odd_values.make_study(tmp_path / "study").path
    odd_values.read(study)
    before = (study / "report.html").read_bytes()
    (study / "study.toml").write_text("x = [")
    for verb in (lambda: write_report([study]), lambda: odd_values.show(study)):
        with pytest.raises(UserError, match=r"study\.toml is not TOML: "):
            verb()
    assert (study / "report.html").read_bytes() == before


TITLES = ("a\\x00b", 'a"b', "a\\", 'a\\"b', "a'`${1}</text>", "\U0001f600" * 300, "x" * 100_000)


@pytest.mark.parametrize("title", TITLES)
def test_any_title_can_be_drawn(title: str) -> None:
    """Of an axis, a column, a series and a figure; numbers where text should be, and the other way round."""
    data = {"x": ["p", 1, None], "y": [1e-100, 1e100, "q"], title: [title, "b", title], "more": [1, 2, 3]}
    for mark, scale in (("bars", "category"), ("points", "log")):
        layer = Layer(mark=mark, data=data, series=title, low="y", high="y")
        axes = {"x": Axis(title=title, scale=scale), "y": Axis(title=title, scale="log")}
        assert png(svg(Figure(name="odd", title=title, caption=title, layers=(layer,), **axes)))

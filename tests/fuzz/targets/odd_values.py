"""Files of a run and of a study with one invalid value, as report, explain and study show read them.

Charts are examined but not drawn, because drawing takes seconds per input. Text that a chart must not contain ends the
drawing process (tests/report/test_odd_values.py draws some of it).
"""

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import tomli_w

from distdl.cli.explain import explain
from distdl.cli.report import write_report
from distdl.cli.study import show
from distdl.core.files import write_json
from distdl.core.run_files import CONFIG, ENVIRONMENT, METRICS, RESULT, TELEMETRY
from distdl.report import page
from distdl.report.content import Figure
from distdl.report.vega import Library
from distdl.report.vega_lite import spec
from distdl.studies.runner import trial_lock as claim
from distdl.studies.runner.folder import FINDINGS, STUDY, TRIALS, StudyFolder
from fuzz.odd_values import with_odd_value
from fuzz.run import Target
from fuzz.targets._run import each
from run_folders import write_run

RUN, SHOWN = "run", "study"
SETTINGS = {"profile": "digits", "workers": [1], "strategies": ["ddp"], "repeats": 2, "epochs": 10}


def seeds(folder: Path) -> dict[str, bytes]:
    """Files that the readers of a run and of a study of two trials open."""
    write_run(folder / RUN, rows=20, samples=5)
    study = make_study(folder / SHOWN)
    trial = study.trials[0].name
    names = [f"{RUN}/{name}" for name in (CONFIG, ENVIRONMENT, METRICS, RESULT, TELEMETRY)]
    names += [f"{SHOWN}/{name}" for name in (STUDY, FINDINGS)]
    names += [f"{SHOWN}/{TRIALS}/{trial}/{name}" for name in (claim.RECORD, METRICS, RESULT)]
    return {name: (folder / name).read_bytes() for name in names}


def make_study(path: Path) -> StudyFolder:
    """A study whose trials are completed."""
    path.mkdir()
    (path / STUDY).write_text(tomli_w.dumps({"study": "scaling", "settings": SETTINGS}), encoding="utf-8")
    study = StudyFolder.open(path)
    for trial in study.trials:
        place = write_run(study.folder(trial), rows=20, samples=2)
        more = {"images": 640, "resumes": 0}
        write_json(place / RESULT, json.loads((place / RESULT).read_bytes()) | more)
        claim.write(place, trial, claim.Record(status="completed", attempts=1, seconds=2.5, host="node1", exit_code=0))
    sections = study.sections()
    study.write_findings(sections)
    return study


def check(folder: Path, name: str, content: bytes) -> None:
    """Any value results in a page, a table, or an error of one line."""
    place = name.split("/", maxsplit=1)[0]
    shutil.copytree(folder.parent / place, folder / place)
    (folder / name).write_bytes(content)
    read(folder / place)


def read(path: Path) -> None:
    """Call every reader of a run or a study."""
    readers = [lambda: write_report([path])]
    readers += [lambda: explain(path), lambda: explain(path, json=True)] if path.name == RUN else [lambda: show(path)]
    undrawn = {"svg": examined, "png": lambda svg: b"", "library": lambda: Library("", "")}
    with mock.patch.multiple(page, **undrawn), contextlib.redirect_stdout(io.StringIO()):
        each(*readers)


def examined(figure: Figure, notes: Sequence[str] = ()) -> str:
    """Check whether a figure can be drawn, without drawing it."""
    for paper in (True, False):
        chart, _ = spec(figure, notes, paper=paper)
        json.dumps(chart, allow_nan=False)
        assert all(line.isprintable() for text in texts(chart) for line in text.split("\n")), "a control character"
        cells = [cell for rows in chart["datasets"].values() for row in rows for cell in row.values()]
        assert all(abs(cell) < 1e103 for cell in cells if isinstance(cell, int | float)), "a huge number"
    return ""


def texts(value: Any) -> list[str]:
    """All text in a value."""
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


TARGET = Target(seeds=seeds, check=check, share=2, change=with_odd_value)

"""The table of trials at 80 columns, and the log lines without a terminal."""

import io
import re
from pathlib import Path

import pytest

import relay
from distdl.core.console import PlainConsole
from distdl.studies.runner import trial_lock as claim
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.progress import ProgressDisplay, clock, progress
from distdl.studies.runner.run import Runner


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A study with one completed, one failed, one interrupted and several waiting trials, one of them blocked."""
    settings = relay.Settings(calls=40, chain=True)
    folder = StudyFolder.create(tmp_path / "study", relay.STUDY, settings)
    for place, status in enumerate(("completed", "completed", "running", "waiting")):
        trial = folder.trials[place]
        folder.folder(trial).mkdir(parents=True)
        claim.write(folder.folder(trial), trial, claim.Record(status=status, attempts=1, seconds=75))
    study_runner = Runner(folder)
    study_runner.states["call3"] = claim.Record(status="failed", attempts=2, reason="error: " + "no room [left] " * 20)
    return study_runner


def rendered(runner: Runner, *, terminal: bool) -> str:
    sink = io.StringIO()
    console = PlainConsole(file=sink, width=80, height=24, force_terminal=terminal, color_system=None)
    with ProgressDisplay(console) as board:
        board(runner)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", sink.getvalue())  # without cursor movements


def test_the_table_fits_a_terminal(runner: Runner) -> None:
    last = rendered(runner, terminal=True).rpartition("relay: ")[2]  # the last time that it was drawn
    head, *body = last.splitlines()
    assert head == "1 failed, 36 not started, 1 waiting, 2 completed of 40"
    assert len(body) < 24 and max(map(len, body)) <= 80
    assert body[0] == "5% done, time left 0.0 s"
    assert any(line.startswith("call3") and "failed" in line for line in body)
    assert not any(line.startswith("call9") for line in body)
    assert " ".join(" ".join(body).split()).count("no room [left]") == 20


def test_the_remaining_time_is_estimated_from_completed_trials() -> None:
    records = {str(place): claim.Record(status="completed", seconds=seconds) for place, seconds in enumerate((50, 70))}
    states = dict.fromkeys(records, "completed") | dict.fromkeys("abc", "waiting") | {"d": "not started"}
    records |= {name: claim.Record() for name in "abcd"}
    assert progress(states, records) == "33% done, time left 3:00 min"
    assert progress(states, records, jobs=2) == "33% done, time left 1:30 min"
    assert progress({"a": "waiting"}, records) == "0% done, time left -"


def test_log_lines_report_changed_trials(runner: Runner) -> None:
    text = rendered(runner, terminal=False)
    assert "[4/40] call3: failed: error: no room [left]" in text
    assert str(runner.folder.path / "trials/call3/output.log") in text
    assert "[5/40] call4: not started" in text and " call0:" not in text and " call2:" not in text


@pytest.mark.parametrize(("seconds", "text"), [(12.34, "12.3 s"), (75, "1:15 min"), (7325, "2:02:05 h")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert clock(seconds) == text

"""Files of a run folder, as explain, report, export, --profile and --resume read them."""

import contextlib
import io
import json
import shutil
from pathlib import Path

from distdl.cli.explain import explain
from distdl.cli.export import export
from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.files import is_row, parse_row
from distdl.core.result import current_result, is_unfinished
from distdl.core.run_files import CONFIG, ENVIRONMENT, METRICS, RESULT
from distdl.core.rundir import RunDir
from distdl.report import run_folder as report_run
from distdl.report.run_page import page
from distdl.training.entry import locate
from fuzz.run import Target
from fuzz.targets._run import RUN, each, train

STEPS = 4


def seeds(folder: Path) -> dict[str, bytes]:
    """The files that readers of a run folder open, without its checkpoints."""
    run = train(folder)
    return {name: (run / name).read_bytes() for name in (CONFIG, ENVIRONMENT, METRICS, RESULT)}


def check(folder: Path, name: str, content: bytes) -> None:
    """The checkpoint to resume from is found, rows are kept unchanged or dropped, figures equal those of the result."""
    run = folder / RUN
    shutil.copytree(folder.parent / RUN, run)
    (run / name).write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()):
        each(
            lambda: explained(run),
            lambda: page([report_run.read(run)]),
            lambda: from_command_line(["--profile", str(run / CONFIG)], strategy="single"),
            lambda: export(run, folder / "weights.safetensors"),
            lambda: resumed(run, content if name == METRICS else None),
        )


def explained(run: Path) -> None:
    """A final result is explained; one that metrics.jsonl contradicts is not treated as final."""
    result = current_result(run)
    if result and not is_unfinished(result):
        assert result == json.loads((run / RESULT).read_bytes()), "a final result was changed"
    explain(run, json=True)


def resumed(run: Path, metrics: bytes | None) -> None:
    """The newest checkpoint is found; entering the folder keeps the complete rows."""
    place = locate(Config(out=run, resume="auto"))
    assert place.start.name == f"step-{STEPS:08d}", f"resumes from {place.start}"
    RunDir(run).enter(Config(), strategy="single", step=STEPS, evaluated=place.evaluated, seen=place.seen)
    assert json.loads((run / RESULT).read_bytes())["status"] == "running"
    assert not list(run.glob(".*"))
    if metrics is not None:
        lines = [line for line in metrics.splitlines(keepends=True) if line.endswith(b"\n")]
        complete = [line for line in lines if is_row(row := parse_row(line)) and row["step"] <= STEPS]
        remaining = (run / METRICS).read_bytes()
        assert all(line in remaining for line in complete), "a complete row was dropped"
        assert all(line in lines for line in remaining.splitlines(keepends=True)), "a row was invented"


TARGET = Target(seeds=seeds, check=check, share=15)

"""Modules of the current folder, which another user may have written, replace none of Python's or of distdl's."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobs import QUIET

DISTDL = str(Path(sys.executable).with_name("distdl"))
AGENT = [sys.executable, "-P", "-m", "distdl.launchers.agent"]
PLANTED = ("distdl", "json", "numpy", "pydantic", "random", "rich", "secrets", "socket", "torch", "tyro")
TRAINING = ["--profile", "digits", "--max-steps", "1", "--out", "run", *QUIET]
STUDY = """
from dataclasses import dataclass
from distdl.report.content import Finding, Section
from distdl.studies.base import Study, Trial

@dataclass(frozen=True, kw_only=True)
class Settings:
    seeds: int = 1

def trials(settings):
    return [Trial(name="a", call="planned:square", settings={}), Trial(name="b", recipe=RECIPE)]

def square(folder, table):
    import numpy
    return {"square": int(numpy.square(3))}

def findings(settings, outcomes):
    return [Section(title="S", parts=(Finding(text=f"9 = {outcomes['a'].result['square']}.", n=1),))]

from distdl.core.profiles import Recipe
RECIPE = Recipe(profile="digits", overrides={"max_steps": 1})
STUDY = Study(name="planned", summary="s", settings=Settings, quick={}, trials=trials, findings=findings)
"""


@pytest.fixture(autouse=True)
def planted(tmp_path: Path) -> None:
    """Write modules that record their import."""
    for name in PLANTED:
        code = f"from pathlib import Path\nPath({str(tmp_path)!r}, 'imported-{name}').touch()\nraise SystemExit(9)\n"
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    (tmp_path / "planned.py").write_text(STUDY, encoding="utf-8")


def test_the_planted_modules_are_imported_by_python_m(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-m", "distdl.train"], cwd=tmp_path, check=False).returncode == 9
    assert (tmp_path / "imported-distdl").exists()


@pytest.mark.parametrize(
    "argv",
    [
        [DISTDL, "launch", "--nproc", "2", "--", *TRAINING],
        [*AGENT, "--nproc-per-node", "2", "-m", "distdl.train", *TRAINING],
        [DISTDL, "study", "run", "planned:STUDY", "--jobs", "1"],
        [DISTDL, "train", *TRAINING, "--data.loader", "torch", "--data.workers", "1"],
        [DISTDL, "verify-resume", "--ranks", "1", "--kills", "1", "--steps", "4"],
    ],
    ids=["launch", "agent", "study", "loader processes", "verify-resume"],
)
def test_no_process_imports_a_module_of_the_current_folder(tmp_path: Path, argv: Sequence[str]) -> None:
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert not list(tmp_path.glob("imported-*"))

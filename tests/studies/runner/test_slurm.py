"""The batch script of a study: whatever its folder is called, the arguments of its commands arrive unchanged."""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distdl.core.errors import UserError
from distdl.studies.base import Study, Trial
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.slurm import script


@dataclass(frozen=True, kw_only=True)
class Settings:
    seeds: int = 1


def folder_of(path: Path, name: str = "made") -> StudyFolder:
    study = Study(name=name, settings=Settings, quick={}, trials=lambda _: [Trial(name="a")], findings=lambda *_: [])
    return StudyFolder(path, study, Settings())


SPECIAL = [
    "$(touch x)",
    "`touch x`",
    "'; touch x; '",
    '"; touch x; "',
    "${HOME}",
    "a b",
    "~",
    "*",
    "#",
    "!",
    "-rf",
    "%j",
    "&",
]
FOLDERS = st.lists(st.sampled_from(SPECIAL) | st.text(st.characters(codec="utf-8"), max_size=8), min_size=1).map(
    "".join
)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with stand-ins for Slurm's programs; srun prints its arguments, separated by zero bytes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, code in (("srun", "printf '%s\\0' \"$@\""), ("squeue", "true"), ("scontrol", "true")):
        (folder / name).write_text(f"#!/bin/bash\n{code}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FOLDERS)
@example("runs\n#SBATCH --wrap=id")
@example("runs\ntouch x\n#")
@example("$(touch x)")
def test_the_folder_of_a_study_is_one_word_or_refused(tmp_path: Path, programs: Path, name: str) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir(exist_ok=True)
    path = tmp_path / "runs" / name.replace("/", "")
    try:
        text = script(folder_of(path), "--partition=gpu", jobs=2)
    except (UserError, ValueError) as error:  # a zero byte is no path
        assert any(not character.isprintable() or character == "\\" for character in name), error
        assert "\n" not in str(error)
        return
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(work_dir)}
    done = subprocess.run(
        ["bash", "-c", text], cwd=work_dir, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and not list(work_dir.iterdir())
    arguments = done.stdout.split("\0")
    assert arguments[arguments.index(sys.executable) :][1:] == [
        *("-P", "-m", "distdl.cli", "study", "run", "made"),
        *("--out", str(path.resolve()), "--leave", "--jobs", "2", ""),
    ]
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert len(directives) == 4
    (output,) = [word for line in directives for word in shlex.split(line) if word.startswith("--output=")]
    assert output == f"--output={str(path.resolve()).replace('%', '%%')}/slurm/%A_%a.log"


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\0b"])
def test_a_name_of_another_packages_study_cannot_end_a_directive(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="which a Slurm directive cannot contain") as error:
        script(folder_of(tmp_path / "study", name), "", jobs=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    ["-p gpu", "gpu", "--partition=gpu; id", "--partition gpu", "--Partition=x", "--comment='a\nb'", "--x=$'"],
)
def test_what_is_no_option_of_sbatch_is_one_line(tmp_path: Path, options: str) -> None:
    with pytest.raises(UserError) as error:
        script(folder_of(tmp_path / "study"), options, jobs=1)
    assert "\n" not in str(error.value)

"""Studies found by entry points: those of distdl, of another package, and of broken packages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from distdl.cli.__main__ import main
from distdl.core.components import COMPONENTS
from distdl.studies.runner import catalog
from relay import register
from repository import TESTS

PLUGIN = TESTS / "studies/plugin"


def distdl(*argv: str, env: Mapping[str, str] | None = None, code: int = 0) -> str:
    command = [sys.executable, "-m", "distdl.cli", *argv]
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_study_of_another_package_is_found_and_run(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(PLUGIN, source)  # setuptools writes into the source folder
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True, timeout=120)
    seen = {"PYTHONPATH": str(site)}
    assert "batch-size" in distdl("study", "list", env=seen)
    argv = ("--quick", "--batches", "16,128", "--seeds", "1", "--jobs", "2")
    text = distdl("study", "run", "batch-size", *argv, "--out", "study", env=seen)
    assert "After 1 epochs, batch 16 reaches" in text
    assert "Accuracy by batch size" in distdl("study", "show", "study", env=seen)
    assert 'study "batch-size" is not known' in distdl("study", "show", "study", code=2)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command in this process, with the studies of `rows` in addition."""

    def call(*argv: str, rows: str = "relay = relay:STUDY", code: int = 0) -> str:
        site = tmp_path / f"site{len(list(tmp_path.glob('site*')))}"
        register(site, rows)
        with monkeypatch.context() as patched:
            patched.syspath_prepend(site)
            patched.delenv("COLUMNS", raising=False)  # lines to a file are not wrapped
            assert main(argv) == code
        out, err = capsys.readouterr()
        return out + err

    return call


def test_broken_studies_are_listed_with_their_errors(
    in_process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raises.py").write_text("raise RuntimeError('no such\\n  device')", encoding="utf-8")
    rows = "gone = nowhere.at_all:STUDY\nraises = raises:STUDY\nother = relay:Settings\nnamed = relay:STUDY"
    text = in_process("study", "list", rows=rows)
    lines = {line.split()[0]: line for line in text.splitlines()}
    missing = 'study "gone" of relay 1.0: cannot import nowhere.at_all:STUDY: there is no module nowhere.at_all'
    assert f"broken: {missing}" in lines["gone"]
    assert "of relay 1.0: cannot import raises:STUDY: RuntimeError: no such device" in lines["raises"]
    assert "relay:Settings is the class Settings; expected a distdl.studies.base.Study" in lines["other"]
    assert 'calls itself "relay"' in lines["named"]
    assert "broken" not in lines["scaling"]
    text = in_process("study", "run", "gone", rows=rows, code=2)
    assert text.startswith(f"error: {missing}") and text.count("\n") == 1


def test_an_unknown_study_is_an_error_with_a_suggestion(in_process) -> None:
    assert 'error: study "scalling" is not known; did you mean "scaling"?' in in_process(
        "study", "run", "scalling", code=2
    )


def test_every_study_of_distdl_can_be_loaded() -> None:
    for name, row in COMPONENTS["studies"].items():
        assert catalog.find(name).name == name
        assert row.summary


def test_both_lists_are_equal_fit_80_columns_and_import_no_torch() -> None:
    """The lists import neither the studies nor torch, and have at most 80 columns."""
    code = (
        "import sys; from distdl.cli.__main__ import main; main(sys.argv[1:]); "
        "print({'torch', 'pandas', 'distdl.studies'} & set(sys.modules))"
    )
    texts = [
        subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True).stdout
        for argv in (("study", "list"), ("list", "studies"))
    ]
    assert texts[0] == texts[1]
    lines = texts[0].splitlines()
    assert [line.split()[0] for line in lines] == [*COMPONENTS["studies"], "set()"]
    assert max(map(len, lines)) <= 80


def test_help_lists_the_settings_of_the_study(in_process) -> None:
    text = in_process("study", "run", "relay", "--help")
    assert "--jobs" in text and "--steps" in text and "Steps of each training" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--set", "callz=3"), '"callz" is not a setting of study relay; did you mean "calls"?'),
        (("--set", "calls"), '--set "calls" has no value: write key=value'),
        (("--set", "calls=many"), "study relay: calls: 'many' is not a whole number"),
        (("--profile", "large"), 'study relay has no profile "large", which has none'),
        (("--profile", "gone.toml"), "there is no profile file gone.toml"),
        (("--jobs", "-1"), "--jobs = -1"),
        (("--calls",), "--calls needs a value"),
        (("--slurm", "partition=gpu"), '"partition=gpu" is not an option of sbatch'),
        (("--slurm", "--time=1", "--gpus", "0,1"), "Slurm assigns the GPUs"),
        (("--slurm", "--time=1 --out=x"), '"out=x" conflicts with --output of the batch script'),
        (("--slurm", "--nodes=2"), '"nodes=2" conflicts with --nodes of the batch script'),
    ],
)
def test_invalid_arguments_are_one_line_errors(argv: tuple[str, ...], message: str, in_process) -> None:
    text = in_process("study", "run", "relay", "--out", "study", *argv, code=2)
    assert message in text and text.count("\n") == 1 and text.startswith("error: ")

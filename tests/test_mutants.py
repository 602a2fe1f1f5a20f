"""Mutation test of the core: changes that run, the tests that notice them, and repeated survivors."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from repository import ROOT

sys.path.append(str(ROOT))

from tools.mutants import __main__ as command
from tools.mutants.changes import Mutant, mutants_of
from tools.mutants.selection import killed_by

MODULE = '''"""Sums."""


def add(a: int, b: int) -> int:
    """a + b."""
    if a < 0 and b < 0:
        raise ValueError(f"{a} + {b}")
    return a + b


def unseen(a: int) -> int:
    return a * 3
'''
TESTS = """
import pytest
from distdl.core.sums import add

def test_that_fails_without_a_change():
    assert False

@pytest.mark.parametrize("case", ["2 + 3 - 0"])
def test_add(case):
    assert add(2, 3) == 5

def test_sign():
    assert add(-1, 3) == 2
    with pytest.raises(ValueError):
        add(-1, -1)
"""
KILLED = {
    "a < 0": "",
    "a + b": "tests/core/test_sums.py::test_add",
    "a < 0 and b < 0": "tests/core/test_sums.py::test_sign",
    "a * 3": "",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one module and its tests."""
    folder = tmp_path_factory.mktemp("copy")
    for name, content in (("distdl/core/sums.py", MODULE), ("tests/core/test_sums.py", TESTS)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(content)
    (folder / "distdl/__init__.py").touch()
    (folder / "distdl/core/__init__.py").touch()
    return folder


def of(copy: Path, code: str) -> Mutant:
    return next(each for each in mutants_of(copy / "distdl/core/sums.py", copy) if each.code == code)


def test_every_change_of_the_core_compiles_and_differs() -> None:
    file = ROOT / "distdl" / "core" / "files.py"
    data = file.read_bytes()
    mutants = list(mutants_of(file, ROOT))
    assert len({each.kind for each in mutants}) > 5
    for each in mutants:
        assert ast.dump(ast.parse(each.apply(data))) != ast.dump(ast.parse(data)), each


def test_messages_annotations_and_docstrings_are_not_changed(copy: Path) -> None:
    codes = {each.code for each in mutants_of(copy / "distdl/core/sums.py", copy)}
    assert codes == {"a < 0", "b < 0", "a < 0 and b < 0", "0", "return a + b", "a + b", "return a * 3", "a * 3", "3"}


@pytest.mark.slow
@pytest.mark.parametrize("code", KILLED)
def test_a_mutant_is_killed_by_a_test_that_passes_without_it(code: str, copy: Path) -> None:
    assert killed_by(of(copy, code), copy, 3) == KILLED[code]
    assert (copy / "distdl/core/sums.py").read_text() == MODULE


@pytest.fixture
def repository(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The repository as the root of the command."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(copy)]
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a", "--allow-empty"]):
        subprocess.run([*git, *argv], check=True)
    monkeypatch.setattr(command, "ROOT", copy)
    yield copy


@pytest.mark.slow
def test_a_second_start_continues_and_survivors_are_repeated(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    tested = [of(repository, "a + b"), of(repository, "a * 3")]

    def run(verb: str, *options: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", ["mutants", verb, str(file), *options])
        command.main()
        return [json.loads(line) for line in file.read_text().splitlines()]

    monkeypatch.setattr(command, "draw", lambda count, seed: tested[:count])
    assert [bool(row["killed_by"]) for row in run("run", "--count", "1")] == [True]
    rows = run("run", "--count", "2")
    assert [bool(row["killed_by"]) for row in rows] == [True, False]
    assert run("again", "--stages", "1") == rows
    run("report")
    assert "| all | 2 | 1 | 1 | 0 | 50.0% |" in capsys.readouterr().out

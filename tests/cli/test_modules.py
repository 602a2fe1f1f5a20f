"""Every module that is a program (`python -m distdl.X`): help, and errors in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import distdl
from distdl.core.renamed import MODULES

PROGRAMS: dict[str, list[tuple[str, str]]] = {
    "distdl.train": [("--nope", "error: Unrecognized options: --nope (python -m distdl.train --help shows all)")],
    "distdl.cli": [("nope", 'error: "nope" is not a command of distdl')],
    "distdl.cli.verify_rank": [("", "error: DISTDL_VERIFY_SAMPLES"), ("--nope", "error: DISTDL_VERIFY_SAMPLES")],
    "distdl.launchers.agent": [
        ("", "error: no program to start"),
        ("--nope x", "error: unrecognized arguments: --nope"),
        ("--nproc-per-node", "error: argument --nproc-per-node: expected one argument"),
        ("--nproc-per-node 0 true", "error: --nproc-per-node and --nnodes must be at least 1"),
        ("--nnodes 2 true", "error: several hosts need the name of the first one"),
        ("--nnodes 2 --master-addr a true", "error: several hosts need a common key"),
        ("--nnodes 2 --node-rank 2 true", "error: --node-rank 2 is not below --nnodes 2"),
        ("--key-file /dev/null true", "error: --key-file /dev/null: it is not a regular file"),
    ],
    "distdl.launchers.remote": [("", "error: usage: python -m distdl.launchers.remote COMMAND")],
    "distdl.launchers.slices": [("begun", 'error: "slurm begun" is not a command of distdl')],
    "distdl.studies.task": [
        ("", "error: usage: python -m distdl.studies.runner.trial_process PARENT CORES"),
        ("1 x folder", "error: usage: "),
    ],
    "distdl.studies.runner.trial_process": [
        ("", "error: usage: python -m distdl.studies.runner.trial_process PARENT CORES"),
        ("PARENT 0,1 folder", "error: usage: "),
        ("1 0,1 --", "error: usage: "),
    ],
}
"""Mistakes and the start of the error message, by module."""
OLD = [module for module in PROGRAMS if f"python -m {module}" in MODULES]


def run(module: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *argv], capture_output=True, text=True, timeout=60)


def lines(module: str, done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines on stderr, without the warning about an old module name."""
    printed = done.stderr.splitlines()
    if module in OLD:
        old = f"python -m {module}"
        assert printed.pop(0) == f"warning: {old} is now {MODULES[old]}; the old name stops working in 0.3"
    return printed


def test_the_table_has_every_program() -> None:
    package = Path(distdl.__file__).parent
    files = [file for file in package.rglob("*.py") if '__name__ == "__main__"' in file.read_text(encoding="utf-8")]
    names = {".".join(("distdl", *file.relative_to(package).with_suffix("").parts)) for file in files}
    assert {name.removesuffix(".__main__") for name in names} == PROGRAMS.keys()
    assert len(OLD) == 2


@pytest.mark.parametrize(
    ("module", "argv", "message"), [(module, *row) for module, rows in PROGRAMS.items() for row in rows]
)
def test_a_mistake_is_a_one_line_error(module: str, argv: str, message: str) -> None:
    done = run(module, *argv.split())
    (line,) = lines(module, done)
    assert done.returncode == 2 and line.startswith(message), done.stderr


@pytest.mark.parametrize("module", [module for module in PROGRAMS if module != "distdl.cli.verify_rank"])
def test_every_program_has_help(module: str) -> None:
    done = run(module, "--help")
    assert done.returncode == 0 and lines(module, done) == []
    assert re.search(r"^usage: (distdl|python -m distdl\.)", done.stdout, re.MULTILINE)


def test_the_entry_point_of_version_0_1_works_with_one_line_of_warning() -> None:
    code = "from distdl.cli import main\nimport sys\nsys.exit(main(['--version']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"distdl {distdl.__version__}\n")
    assert (
        done.stderr == "warning: distdl.cli:main is now distdl.cli.__main__:main; the old name stops working in 0.3\n"
    )


def test_an_import_of_an_old_name_gives_a_deprecation_warning() -> None:
    import distdl.cli

    with pytest.warns(DeprecationWarning, match=r"^distdl\.cli:main is now"):
        assert callable(distdl.cli.main)

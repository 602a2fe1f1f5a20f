"""Tests that can notice a change of a module, and the first of them that does."""

import ast
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.mutants.changes import Mutant

TIMEOUT_S = 900
"""Seconds after which the tests of a stage are stopped: the changed code does not end."""
SELECTED = "not slow and not serial and not gpu"


def stages(file: str, root: Path) -> Iterator[list[str]]:
    """Test files that can notice a change of a module, the nearest first.

    They are the test file of the module, those that import the module, and those of its package and of whole runs.
    """
    tests = root / "tests"
    path = Path(file).relative_to("distdl")
    module = ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
    seen: set[Path] = set()
    for candidates in (
        [tests / path.with_name(f"test_{path.name}")],
        [each for each in sorted(tests.rglob("test_*.py")) if module in _imports(each)],
        [*sorted((tests / path.parts[0]).rglob("test_*.py")), *sorted((tests / "integration").glob("test_*.py"))],
    ):
        new = [each for each in candidates if each.exists() and each not in seen]
        seen.update(new)
        yield [each.relative_to(root).as_posix() for each in new]


def _imports(file: Path) -> set[str]:
    """Modules that a file imports: `from a import b` counts as a and as a.b."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return modules


def killed_by(mutant: Mutant, folder: Path, last_stage: int) -> str:
    """Run the tests on a mutant, in a copy of the repository.

    Returns:
        The first test that fails with the change and passes without it; empty if no test does.
    """
    file = folder / mutant.file
    original = file.read_bytes()

    def changed_failing(paths: Sequence[str], omitted: Sequence[str]) -> str:
        file.write_bytes(mutant.apply(original))
        try:
            return failing(paths, folder, omitted)
        finally:
            file.write_bytes(original)

    for paths in itertools.islice(stages(mutant.file, folder), last_stage):
        if not paths:
            continue
        omitted: list[str] = []
        while failed := changed_failing(paths, omitted):
            if "::" not in failed or not failing([failed], folder):
                return failed
            omitted.append(failed)
    return ""


def failing(paths: Sequence[str], folder: Path, omitted: Sequence[str] = ()) -> str:
    """Run tests until one fails. Returns its name without parameters, or how pytest ended; empty if all pass."""
    deselected = [f"--deselect={name}" for name in omitted]
    options = ("-x", "-q", "--no-header", "-rfE", "-p", "no:cacheprovider", "-m", SELECTED)
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", "pytest", *options, *deselected, *paths]
    with subprocess.Popen(
        argv,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return f"more than {TIMEOUT_S} s"
    if process.returncode in (0, 5):  # 5: no test was selected
        return ""
    # Without parameters, whose text may have spaces: all cases of the test are repeated.
    names = [
        line.split()[1].partition("[")[0] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))
    ]
    return names[0] if names else f"exit code {process.returncode}"

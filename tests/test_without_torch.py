"""`distdl.core` and `distdl.perf` in an environment without torch: they import, and pass their tests.

The virtual environment contains only links to the installed distributions of `NEEDED` and of their dependencies, so
that it needs no network and no package cache.
"""

import ast
import subprocess
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from repository import ROOT

NEEDED = ("numpy", "scipy", "pydantic", "tomli-w", "rich", "pytest", "hypothesis")
ABSENT = ("torch", "torchvision", "matplotlib")
LAYERS = ("core", "perf")
LONG = " or ".join(
    (
        *("200_draws", "points_at_random", "quarter_better", "noise_that_lasts", "half_of_the_way", "from_a_quarter"),
        *("auto_finds", "new_configuration_meets", "nearer_the_truth", "costs_less_than"),
    )
)
"""Tests that are not run because they take long: the other tests run the same functions."""


def _with_dependencies(names: tuple[str, ...]) -> dict[str, Distribution]:
    """The distributions with these names and their dependencies, by name."""
    queue, distributions = list(names), {}
    while queue:
        name = queue.pop()
        if name not in distributions:
            distributions[name] = distribution(name)
            requirements = map(Requirement, distributions[name].requires or ())
            queue += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    return distributions


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment without torch."""
    folder = tmp_path_factory.mktemp("without-torch")
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for package in _with_dependencies(NEEDED).values():
        entries = {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
        for entry in entries:
            target = Path(str(package.locate_file(entry)))
            if target.exists() and not (packages / entry).exists():
                (packages / entry).symlink_to(target)
    # As in setup.py: profiles/ of the repository is the package distdl.profiles.
    (packages / "distdl").mkdir()
    for entry in (*(ROOT / "distdl").iterdir(), ROOT / "profiles"):
        if entry.name != "__pycache__":
            (packages / "distdl" / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def _run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere"}
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, cwd=python.parent, env=environment, timeout=900
    )


def _modules(layer: str) -> list[str]:
    files = (ROOT / "distdl" / layer).rglob("*.py")
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files)


@pytest.mark.parametrize("package", ABSENT)
def test_the_environment_does_not_have(python: Path, package: str) -> None:
    done = _run(python, "-c", f"import {package}")
    assert "ModuleNotFoundError" in done.stderr and package in done.stderr


@pytest.mark.parametrize("layer", LAYERS)
def test_every_module_imports(python: Path, layer: str) -> None:
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(name); importlib.import_module(name)"
    done = _run(python, "-c", code, *_modules(layer))
    assert done.returncode == 0, f"{done.stdout.split()[-1]}: {done.stderr}"


@pytest.mark.parametrize("layer", LAYERS)
def test_the_tests_pass(python: Path, layer: str, tmp_path: Path) -> None:
    modules = [file for file in sorted((ROOT / "tests" / layer).rglob("test_*.py")) if _is_free_of_torch(file)]
    assert len(modules) >= {"core": 5, "perf": 15}[layer], modules
    paths = f"{ROOT / 'tests'} {ROOT / 'tests' / 'support'}"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {paths}\nmarkers =\n    slow\n    serial\n")
    options = ["-q", "-x", "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider"]
    options += ["-m", "not slow", "-k", f"not ({LONG})", "-c", str(tmp_path / "pytest.ini"), "--rootdir", str(tmp_path)]
    done = _run(python, "-m", "pytest", *options, *map(str, modules))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def _is_free_of_torch(file: Path) -> bool:
    """Whether a test module imports nothing above perf, and no package that the environment lacks."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    layers = {name.split(".")[1] for name in imported if name.startswith("distdl.")}
    return layers <= set(LAYERS) and not {name.split(".")[0] for name in imported} & set(ABSENT)

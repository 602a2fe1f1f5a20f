"""The wheel, installed in its own environment outside the checkout: complete, typed, and able to train."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import distdl
from repository import ROOT

SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "distdl", "profiles")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel built from a copy, because setuptools writes files into the source folder."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    argv = ["-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source]
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment that contains the wheel; it imports this environment's packages, but not the checkout."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-index", "--prefix", home]
    done = subprocess.run([*pip, "--ignore-installed", wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Adds a folder to sys.path. Python does not read the .pth files in it, such as that of an editable distdl.
    (site / "torch-and-others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def run(argv: list[object], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, argv)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_files_are_in_the_wheel(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if "/" in name and ".dist-info" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "distdl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    profiles = {
        f"distdl/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "profiles").rglob("*.*")
        if "__pycache__" not in path.parts
    }
    assert len(profiles) > 10
    assert inside == sources | profiles


def test_the_wheel_has_py_typed(wheel: Path) -> None:
    """PEP 561: without py.typed a type checker ignores the annotations of an installed package."""
    assert "distdl/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_version_of_wheel_package_and_command_agree(wheel: Path, installed: Path, tmp_path: Path) -> None:
    assert wheel.name.split("-")[1] == distdl.__version__
    assert run([installed / "distdl", "--version"], tmp_path) == f"distdl {distdl.__version__}\n"


def test_trains_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    module = run([installed / "python", "-c", "import distdl; print(distdl.__file__)"], tmp_path)
    assert Path(module.strip()).is_relative_to(installed.parent)
    argv = ["--profile", "digits", "--epochs", "2", "--progress", "plain", "--out", "run"]
    assert "test accuracy" in run([installed / "python", "-m", "distdl.train", *argv], tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "completed" and result["test"]["accuracy"] > 0.5


def test_commands_find_their_profiles(installed: Path, tmp_path: Path) -> None:
    assert "digits" in run([installed / "distdl", "train", "--list"], tmp_path)
    prediction = json.loads(run([installed / "distdl", "paleo", "resnet18", "--device", "k80", "--json"], tmp_path))
    assert prediction["forward_s"] > 0

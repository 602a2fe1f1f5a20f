"""distdl as people install it: a wheel in an environment of its own trains far from the checkout it was built in."""

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

from repository import ROOT

SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "distdl", "profiles")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its own files in the folder that it builds."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment with the wheel in it, which sees this one's packages but not the checkout."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-index", "--prefix", home]
    done = subprocess.run([*pip, "--ignore-installed", wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # A folder to import from. The .pth files in it, as that of an editable distdl, are not read.
    (site / "torch-and-others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def run(words: list[object], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_files_are_in_the_wheel(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if "/" in name and ".dist-info" not in name}
    here = {
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
    assert inside == here | profiles


def test_it_trains_outside_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run([installed / "python", "-c", "import distdl; print(distdl.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    words = ["--profile", "digits", "--epochs", "2", "--progress", "plain", "--out", "run"]
    assert "test accuracy" in run([installed / "python", "-m", "distdl.train", *words], tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "completed" and result["test"]["accuracy"] > 0.5


def test_its_verbs_find_their_profiles(installed: Path, tmp_path: Path) -> None:
    assert "digits" in run([installed / "distdl", "train", "--list"], tmp_path)
    found = json.loads(run([installed / "distdl", "paleo", "resnet18", "--device", "k80", "--json"], tmp_path))
    assert found["forward_s"] > 0

"""A package with one component of each kind is installed, listed, and trained with."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distdl.core.registry import KINDS
from repository import ROOT, TESTS

PLUGIN = TESTS / "plugin"
NAMES = {
    "models": "tiny",
    "datasets": "stripes",
    "losses": "focal",
    "metrics": "confidence",
    "strategies": "alone",
    "loaders": "whole-set",
    "optimizers": "sign",
    "schedules": "halved",
    "augmentations": "shade",
    "trackers": "lines",
    "launchers": "plain",
}
TRAINING = [
    *("--model.name", "tiny", "--data.name", "stripes", "--loss", "focal", "--metrics", "confidence"),
    *("--strategy", "alone", "--data.loader", "whole-set", "--optim.name", "sign", "--optim.momentum", "0.5"),
    *("--schedule.name", "halved", "--data.augment.extra", "shade", "--trackers", "lines"),
    *("--optim.lr", "0.002", "--optim.weight-decay", "0", "--epochs", "4", "--progress", "none"),
    *("--options", "model.width=16", "dataset.count=320", "loss.gamma=1", "optimizer.floor=1e-9", "schedule.every=2"),
    *("shade.strength=0.2", "lines.note=hello"),
]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a process that finds the installed package."""
    source, site = tmp_path_factory.mktemp("plugin") / "source", tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN, source)  # because setuptools writes into the source folder
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*install, "--target", site, source], check=True, timeout=300)
    return os.environ | {"PYTHONPATH": str(site)}


def distdl(environ: dict[str, str], *argv: str) -> str:
    command = [sys.executable, "-m", "distdl.cli", *argv]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_is_in_the_package() -> None:
    assert {*NAMES, "studies"} == set(KINDS)  # a study is in tests/studies/plugin


def test_components_of_a_package_are_listed(environ: dict[str, str]) -> None:
    for group, name in NAMES.items():
        assert re.search(rf"^{name}\b.*own-parts 1.0", distdl(environ, "list", group, name), re.MULTILINE), group


def test_one_training_with_a_component_of_each_kind(environ: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    printed = distdl(environ, "launch", "--with", "plain", "--dry-run", "--", *TRAINING, "--out", str(run))
    assert "-m distdl.train --profile digits" in printed
    distdl(environ, "launch", "--with", "plain", "--", *TRAINING, "--out", str(run))
    result = json.loads((run / "result.json").read_text())
    assert (result["strategy"], result["loader"]) == ("alone", "whole-set")
    assert result["test"]["accuracy"] > 0.9
    assert 0.5 < result["test"]["confidence"] <= 1
    lines = [json.loads(line) for line in (run / "lines.jsonl").read_text().splitlines()]
    assert lines[0] == {"note": "hello"}
    assert lines[-1] == {"closed": "completed"}
    rates = {row["lr"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "lr" in row}
    assert min(rates) == pytest.approx(0.001)


def test_a_resumed_training_needs_the_same_components(environ: dict[str, str], tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    distdl(environ, "train", *TRAINING, "--max-steps", "5", "--out", run)
    distdl(environ, "train", *TRAINING, "--max-steps", "10", "--out", run, "--resume", "auto")
    assert json.loads((tmp_path / "run/result.json").read_text())["steps"] == 10


def test_the_page_shows_the_same_code() -> None:
    page = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    source = (PLUGIN / "src/my_components/__init__.py").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# my_components\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == len(NAMES) + 1  # the first one has the imports
    for block in blocks:
        assert block.strip() in source


def test_a_module_of_the_current_folder_is_found_by_the_program(tmp_path: Path) -> None:
    (tmp_path / "my_schedules.py").write_text(
        "def halved(epoch, done, *, every: int):\n    return 0.5 ** (epoch // every)\n"
    )
    program = Path(sys.executable).with_name("distdl")
    argv = ["train", "--schedule.name", "my_schedules:halved", "--options", "schedule.every=2", "--max-steps", "2"]
    done = subprocess.run([program, *argv, "--progress", "none"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

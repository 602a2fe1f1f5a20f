"""Components named as package.module:callable: modules of the current folder, and what a message suggests."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from distdl.core import registry, targets
from distdl.core.errors import UserError
from distdl.core.profiles import Recipe, resolve

OWN = """
from json import dumps as dumper
import torch
LIMIT = 3
def smooth_loss(logits, labels): ...
def _hidden(logits, labels): ...
class SmoothLoss(torch.nn.Module): ...
class Smoothing: ...
def smooth_optimizer(groups): ...
"""


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module of a user in the current folder, with an own path for this test."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(tmp_path))])
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "folder").mkdir()
    monkeypatch.setitem(globals(), "OWN_NAME", name)


OWN_NAME = ""
"""Another name in each test: Python keeps the modules that it has imported."""


@pytest.mark.parametrize(
    ("group", "attribute", "message"),
    [
        ("losses", "smooth_los", '; did you mean "{own}:smooth_loss"?'),
        ("losses", "smoth_loss", '; did you mean "{own}:smooth_loss"?'),
        ("losses", "SmoothLos", '; did you mean "{own}:smooth_loss"?'),
        ("models", "SmoothLos", '; did you mean "{own}:SmoothLoss" or "{own}:smooth_loss"?'),
        ("models", "Thing", " (it has smooth_loss, SmoothLoss, smooth_optimizer)"),
        ("losses", "LIMITS", " (it has smooth_loss, smooth_optimizer)"),
        ("losses", "hidden", " (it has smooth_loss, smooth_optimizer)"),
        ("losses", "nope", " (it has smooth_loss, smooth_optimizer)"),
        ("losses", "dumped", '; did you mean "{own}:dumper"?'),
    ],
)
def test_attributes_that_are_close_and_usable_are_suggested(group: str, attribute: str, message: str) -> None:
    target, where = f"{OWN_NAME}:{attribute}", registry.KINDS[group].where
    expected = f"{where}: cannot import {target}: there is no {attribute!r} in {OWN_NAME}{message.format(own=OWN_NAME)}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        registry.find(group, target)


def test_a_package_is_not_listed() -> None:
    with pytest.raises(UserError, match=r"there is no 'nope' in torch\.nn$"):
        targets.load("torch.nn:nope", "loss")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{own}x:smooth_loss", '; did you mean "{own}:smooth_loss"?'),
        ("{own}x:SmoothLoss", '; did you mean "{own}:SmoothLoss"?'),
        ("{own}x:dumper", '; did you mean "{own}:dumper"?'),
        ("{own}x:LIMIT", '; did you mean "{own}:LIMIT"?'),
        ("{own}x:nope", ""),
        ("broke:f", ""),
    ],
)
def test_modules_with_the_attribute_are_suggested(name: str, message: str, tmp_path: Path) -> None:
    name, path = name.format(own=OWN_NAME), list(sys.path)
    text = f"there is no module {name.partition(':')[0]}, neither installed nor in {tmp_path}"
    expected = f"loss: cannot import {name}: {text}{message.format(own=OWN_NAME)}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        resolve(Recipe(overrides={"loss": name}), strategy="single")
    assert sys.path == path


def test_a_check_does_not_change_the_path(tmp_path: Path) -> None:
    path = list(sys.path)
    assert not targets.no_module(f"{OWN_NAME}:smooth_loss") and not targets.no_module("folder:f")
    assert not targets.no_module("json.decoder:f")
    targets.load("json:dumps", "loss")
    assert sys.path == path and OWN_NAME not in sys.modules
    targets.load(f"{OWN_NAME}:smooth_loss", "loss")
    assert sys.path == [*path, str(tmp_path)]


def test_a_file_that_does_not_exist_is_not_suggested() -> None:
    message = "loss: 'no/such.py:f' is not package.module:callable, and there is no module no.such"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        registry.find("losses", "no/such.py:f")


def usable(group: str, value: Any) -> bool:
    return targets.is_usable(registry.KINDS[group], value)


def test_usable_objects() -> None:
    import torch

    assert usable("losses", len) and usable("models", len) and usable("models", torch.nn.Linear)
    assert not usable("losses", torch.nn.Linear) and not usable("models", torch.optim.SGD)
    assert usable("optimizers", torch.optim.SGD) and usable("losses", registry.Row(factory="json:dumps"))
    assert not usable("losses", 3) and not usable("metrics", torch.nn.Linear)

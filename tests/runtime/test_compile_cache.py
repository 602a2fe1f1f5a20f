"""The folder of compiled code: private, or the one that the environment names."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.runtime.compile_cache import VARIABLE, make_private
from distdl.runtime.torch_private import default_compile_cache
from other_user import OTHER, needs_root


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def folder() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"]) / "distdl" / "compiled"


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: default_compile_cache()}])
def test_the_folder_is_created_for_this_user_only(environ: dict[str, str]) -> None:
    for _ in range(2):
        environ = dict(environ)
        make_private(environ)
        assert environ == {VARIABLE: str(folder())}
        assert folder().stat().st_mode & 0o777 == 0o700


def test_a_folder_of_the_environment_is_kept() -> None:
    environ = {VARIABLE: "/x"}
    make_private(environ)
    assert environ == {VARIABLE: "/x"} and not folder().exists()


def link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir()
    place.symlink_to(place.parent / "elsewhere")


def with_mode(mode: int) -> Callable[[Path], None]:
    def create(place: Path) -> None:
        place.mkdir()
        place.chmod(mode)

    return create


def of_another_user(place: Path) -> None:
    needs_root()
    place.mkdir(mode=0o700)
    os.chown(place, OTHER, OTHER)


@pytest.mark.parametrize("create", [link, with_mode(0o777), with_mode(0o720), of_another_user])
def test_a_folder_that_others_can_change_is_refused(create: Callable[[Path], None]) -> None:
    folder().parent.mkdir(parents=True)
    create(folder())
    environ: dict[str, str] = {}
    with pytest.raises(UserError, match=r"other users can change .*/compiled, whose compiled code this training would"):
        make_private(environ)
    assert not environ


def test_a_folder_that_cannot_be_created_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"cannot be created: Not a directory; name another one by {VARIABLE}"):
        make_private({})


COMPILED = """
import sys
from distdl.cli.__main__ import main

options = ["--max-steps", "1", "--compute.compile", "--data.limit", "64", "--progress", "none", "--telemetry.hz", "0"]
sys.exit(main(["train", "--profile", "digits", "--model.name", "softmax", *options, "--out", "run"]))
"""


def test_a_training_compiles_into_the_private_folder() -> None:
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMPILED], env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert any(file.is_file() for file in folder().rglob("*")), "generated code"

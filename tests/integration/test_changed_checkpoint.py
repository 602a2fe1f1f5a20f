"""A checkpoint that was changed, also with matching checksums, is one line for every command that reads it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.cli.__main__ import main
from distdl.core.manifest import MANIFEST, STATE, digest, published
from jobs import QUIET, train

ARGV = ("train", "--data.limit", "64", "--data.batch-size", "32", "--model.name", "softmax", *QUIET)
Table = dict[str, Any]


class Planted:
    """An object whose unpickling makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PLANTED"],)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train([*ARGV[1:], "--epochs", "1", "--optim.ema", "0.9", "--out", str(run)])
    return run


@pytest.fixture
def checkpoint(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLANTED", str(tmp_path / "planted"))
    shutil.copytree(finished, tmp_path / "run")
    return published(tmp_path / "run" / "checkpoints")[-1]


READERS: dict[str, tuple[str, ...]] = {
    "resume auto": (*ARGV, "--optim.ema", "0.9", "--epochs", "2", "--out", "run", "--resume", "auto"),
    "resume a run": (*ARGV, "--optim.ema", "0.9", "--epochs", "2", "--out", "out", "--resume", "run"),
    "resume a checkpoint": (*ARGV, "--optim.ema", "0.9", "--epochs", "2", "--out", "out", "--resume", "CHECKPOINT"),
    "weights": (*ARGV, "--epochs", "1", "--out", "out", "--model.weights", "run"),
    "export": ("export", "run", "x.safetensors"),
    "export the newest": ("export", "run", "x.safetensors", "--which", "newest"),
    "export a checkpoint": ("export", "CHECKPOINT", "x.safetensors"),
}


def manifest(change: Callable[[Table], object]) -> Callable[[Path], None]:
    """Change the manifest."""

    def apply(checkpoint: Path) -> None:
        table = json.loads((checkpoint / MANIFEST).read_text())
        changed = change(table)
        (checkpoint / MANIFEST).write_text(json.dumps(table if changed is None else changed))

    return apply


def sealed(checkpoint: Path) -> None:
    """Write the checksum of the changed state into the manifest."""
    manifest(lambda table: table["sha256"].update({STATE: digest(checkpoint / STATE)}))(checkpoint)


def state(change: Callable[[Table], object]) -> Callable[[Path], None]:
    """Change the state, with its checksum; a value that is returned replaces it."""

    def apply(checkpoint: Path) -> None:
        table = torch.load(checkpoint / STATE, weights_only=True)
        changed = change(table)
        torch.save(table if changed is None else changed, checkpoint / STATE)
        sealed(checkpoint)

    return apply


def content(data: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of the state, with its checksum."""

    def apply(checkpoint: Path) -> None:
        (checkpoint / STATE).write_bytes(data((checkpoint / STATE).read_bytes()))
        sealed(checkpoint)

    return apply


def update(table: Table, **values: Any) -> None:
    table.update(values)


CHANGES: dict[str, Callable[[Path], None]] = {
    "a key more in progress": manifest(lambda table: update(table["progress"], evil=1)),
    "a key less in progress": manifest(lambda table: update(table, progress={"step": 2})),
    "a text for the step": manifest(lambda table: update(table["progress"], step="2")),
    "true for the step": manifest(lambda table: update(table["progress"], step=True)),
    "a negative epoch": manifest(lambda table: update(table["progress"], epoch=-1)),
    "a huge number of images": manifest(lambda table: update(table["progress"], images=10**400)),
    "a list for progress": manifest(lambda table: update(table, progress=[1])),
    "a huge time": manifest(lambda table: update(table["progress"], elapsed_s=10**400)),
    "a huge metric": manifest(lambda table: update(table, metric=10**400)),
    "a text for the metric": manifest(lambda table: update(table, metric="best")),
    "a list for the metric's kind": manifest(lambda table: update(table, metric_kind=["accuracy"])),
    "a checksum of a file outside": manifest(lambda table: update(table["sha256"], **{"../../x": "0" * 64})),
    "a checksum of an absolute path": manifest(lambda table: update(table["sha256"], **{"/etc/passwd": "0" * 64})),
    "a checksum of no name": manifest(lambda table: update(table["sha256"], **{"": "0" * 64})),
    "a checksum of a zero byte": manifest(lambda table: update(table["sha256"], **{"a\0b": "0" * 64})),
    "a number for a checksum": manifest(lambda table: update(table["sha256"], **{STATE: 3})),
    "a list of checksums": manifest(lambda table: update(table, sha256=[STATE])),
    "a list": manifest(lambda table: [table]),
    "a number": manifest(lambda table: 3),
    "no JSON": lambda checkpoint: (checkpoint / MANIFEST).write_text("{"),
    "nested deeply": lambda checkpoint: (checkpoint / MANIFEST).write_text("[" * 200_000),
    "bytes": lambda checkpoint: (checkpoint / MANIFEST).write_bytes(b"\xff\x00\x1b[31m"),
    "a pickled object": state(lambda table: update(table, evil=Planted())),
    "a pickled object alone": state(lambda table: Planted()),
    "a pickled function for the weights": state(lambda table: update(table, model=os.system)),
    "a list for a state": state(lambda table: [table]),
    "a list for weights": state(lambda table: update(table, model=[1])),
    "a text for a weight": state(lambda table: table["model"].update(dict.fromkeys(table["model"], "x"))),
    "no weights": state(lambda table: table.pop("model") and None),
    "a tensor for a state": state(lambda table: torch.zeros(3)),
    "an empty state": content(lambda data: b""),
    "half of a state": content(lambda data: data[: len(data) // 2]),
    "text for a state": content(lambda data: b"\x1b[31mstate\n" * 100),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_checkpoint_is_one_line(
    checkpoint: Path, tmp_path: Path, change: str, reader: str, capfd: pytest.CaptureFixture[str]
) -> None:
    CHANGES[change](checkpoint)
    argv = [str(checkpoint) if word == "CHECKPOINT" else word for word in READERS[reader]]
    assert main(argv) == 2
    *warnings, error = capfd.readouterr().err.splitlines()
    assert error.startswith("error: ") and error.isprintable() and "Traceback" not in error
    assert all(line.startswith("warning: ") and line.isprintable() for line in warnings)
    assert "weights_only" not in error
    assert not any((tmp_path / name).exists() for name in ("planted", "x.safetensors", "out"))


@pytest.mark.parametrize("reader", READERS)
def test_the_unchanged_checkpoint_is_read(
    checkpoint: Path, tmp_path: Path, reader: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint) if word == "CHECKPOINT" else word for word in READERS[reader]]) == 0
    assert "error" not in capfd.readouterr().err

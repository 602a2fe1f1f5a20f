"""Files of a checkpoint, as --resume, export and the choice of the best read them; also with valid checksums.

In a `content` seed some values of the state are replaced, which mutations of the file's bytes rarely achieve.
"""

import contextlib
import copy
import io
import json
import random
import shutil
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from distdl.cli.export import export
from distdl.cli.recipe import from_command_line
from distdl.core import checkpoints as stored
from distdl.core.checkpoints import find
from distdl.core.manifest import MANIFEST, STATE, digest, published
from distdl.core.rundir import RunDir
from distdl.data.sets.load import load as load_data
from distdl.runtime.tensors import load, network_state, write_tensors
from distdl.strategies.single import Single
from distdl.training.trainer import Trainer
from fuzz.run import Target
from fuzz.targets._run import ARGV, BATCH, RUN, each, train

CONTENT = b"the unchanged state"
ODD_VALUES = (None, True, -1, 3, 10**30, float("nan"), "x", "", [], [1], {}, {"a": 1}, {1: 2}, torch.zeros(3))


def seeds(folder: Path) -> dict[str, bytes]:
    """State and manifest of the newest checkpoint; `sealed` denotes a state whose checksum is recomputed."""
    newest = published(train(folder) / "checkpoints")[-1]
    state, manifest = (newest / STATE).read_bytes(), (newest / MANIFEST).read_bytes()
    original(newest)
    trainer()
    contents = {f"content-{number}": CONTENT for number in range(4)}
    return {STATE: state, MANIFEST: manifest, f"sealed-{STATE}": state, f"start-of-{STATE}": state[:4096], **contents}


@lru_cache
def original(checkpoint: Path) -> dict:
    """The state before any damage."""
    return load(checkpoint)[0]


@lru_cache
def trainer() -> Trainer:
    """Trainer with the run's configuration and one more epoch to train."""
    config = from_command_line([*ARGV, *BATCH, "--epochs", "3", "--telemetry.hz", "0"], strategy="single")
    strategy = Single(config)
    strategy.setup()
    return Trainer(config, strategy, load_data(config.data), RunDir(Path(RUN)))


def altered(state: dict, content: bytes) -> dict:
    """Replace or remove up to three values of the state, as determined by `content`."""
    state, rng = copy.deepcopy(state), random.Random(zlib.crc32(content))
    for _ in range(rng.randint(1, 3) if content != CONTENT else 0):
        container, key = rng.choice(list(places(state)))
        if rng.random() < 0.2:
            del container[key]
        else:
            container[key] = rng.choice([*ODD_VALUES, *unlike(container[key])])
    return state


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of a table and index of a list, recursively."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def unlike(value: Any) -> list[Any]:
    """Values that are close to `value`, or of another type."""
    if isinstance(value, torch.Tensor):
        return [
            value.to(torch.int8),
            value.half(),
            value.reshape(-1)[:1],
            value.unsqueeze(0),
            value.expand(2, *value.shape),
        ]
    return [-value, value + 0.5, str(value)] if type(value) in (int, float) else [[value], {"a": value}]


def check(folder: Path, name: str, content: bytes) -> None:
    """A damaged checkpoint is skipped or refused; a state with a valid checksum is trained or refused."""
    run = folder / RUN
    shutil.copytree(folder.parent / RUN, run)
    earlier, newest = published(run / "checkpoints")
    undamaged = (newest / MANIFEST if name == MANIFEST else newest / STATE).read_bytes()
    expected = original(published(folder.parent / RUN / "checkpoints")[-1])
    if name.startswith("content-"):
        write_tensors(newest / STATE, altered(expected, content))
    else:
        content += undamaged[4096:] if name.startswith("start-of-") else b""
        (newest / (MANIFEST if name == MANIFEST else STATE)).write_bytes(content)
    if name not in (STATE, MANIFEST):
        manifest = json.loads((newest / MANIFEST).read_text())
        manifest["sha256"][STATE] = digest(newest / STATE)
        (newest / MANIFEST).write_text(json.dumps(manifest))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        each(
            lambda: resumed(run, earlier if name == STATE and content != undamaged else None, expected, name),
            lambda: stored.best_whole(run / "checkpoints", "", lambda _: None),
            lambda: export(run, folder / "weights.safetensors"),
        )


def resumed(run: Path, earlier: Path | None, expected: dict, name: str) -> None:
    """Resume, train an epoch, evaluate and write the result, as `distdl train` does."""
    start = find(run, lambda _: None)
    assert earlier is None or start == earlier, "a damaged state was not detected"
    state, _ = load(start)
    training = trainer()
    training.resume(start)
    model, _ = network_state(state, start)
    if name in (STATE, MANIFEST) and start != published(run / "checkpoints")[0]:
        assert all(torch.equal(model[key], expected["model"][key]) for key in expected["model"]), "other weights"
    training.train_epoch()
    training.end_epoch()
    training.evaluate("test")
    json.dumps([training.result("completed"), training.changes])


TARGET = Target(seeds=seeds, check=check, share=15)

"""Files of a checkpoint, as --resume, export and the choice of the best read them; with right checksums too."""

import contextlib
import io
import json
import shutil
from functools import lru_cache
from pathlib import Path

import torch

from distdl.checkpoint import Checkpoints, check_same, find, load, network_state
from distdl.export import export
from distdl.manifest import MANIFEST, STATE, digest, published
from distdl.resumption import check_fields
from fuzz.run import Target
from fuzz.targets._run import RUN, each, train


def seeds(folder: Path) -> dict[str, bytes]:
    """State and manifest of the newest checkpoint; `sealed` stands for a state whose checksum is made right again."""
    newest = published(train(folder) / "checkpoints")[-1]
    state, manifest = (newest / STATE).read_bytes(), (newest / MANIFEST).read_bytes()
    original(newest)
    return {STATE: state, MANIFEST: manifest, f"sealed-{STATE}": state, f"start-of-{STATE}": state[:4096]}


@lru_cache
def original(checkpoint: Path) -> dict:
    """The state before any damage."""
    return load(checkpoint)[0]


def check(folder: Path, name: str, content: bytes) -> None:
    """A damaged checkpoint is passed over or refused; a state with a right checksum is read or refused."""
    run = folder / RUN
    shutil.copytree(folder.parent / RUN, run)
    earlier, newest = published(run / "checkpoints")
    before = (newest / MANIFEST if name == MANIFEST else newest / STATE).read_bytes()
    if name.startswith("start-of-"):
        content += before[4096:]
    (newest / (MANIFEST if name == MANIFEST else STATE)).write_bytes(content)
    if name not in (STATE, MANIFEST):
        manifest = json.loads((newest / MANIFEST).read_text())
        manifest["sha256"][STATE] = digest(newest / STATE)
        (newest / MANIFEST).write_text(json.dumps(manifest))
    expected = original(published(folder.parent / RUN / "checkpoints")[-1])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        each(
            lambda: resumed(run, earlier if name == STATE and content != before else None, expected, name),
            lambda: Checkpoints(run / "checkpoints").best_whole(lambda _: None),
            lambda: export(run, folder / "weights.safetensors"),
        )


def resumed(run: Path, earlier: Path | None, expected: dict, name: str) -> None:
    """What a resume reads and checks before it changes anything."""
    start = find(run, lambda _: None)
    assert earlier is None or start == earlier, "a damaged state was not noticed"
    state, _ = load(start)
    check_same(state, expected, start)
    check_fields(state, start)
    model, _ = network_state(state, start)
    if name in (STATE, MANIFEST) and start != published(run / "checkpoints")[0]:
        assert all(torch.equal(model[key], expected["model"][key]) for key in expected["model"]), "other weights"


TARGET = Target(seeds=seeds, check=check, share=15)

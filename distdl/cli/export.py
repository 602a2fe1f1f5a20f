"""`distdl export RUN FILE.safetensors`: the weights of a run in the format that everybody reads and nobody executes."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from distdl.core import checkpoints
from distdl.core.checkpoints import find
from distdl.core.errors import UserError, reason
from distdl.core.files import write_atomic
from distdl.core.rundir import CHECKPOINTS
from distdl.runtime.tensors import load, network_state


def export(
    run: Annotated[Path, tyro.conf.Positional],
    file: Annotated[Path, tyro.conf.Positional],
    *,
    which: str = "best",
    raw: bool = False,
) -> None:
    """Write a run's weights as safetensors, with the names that the network gives them.

    Args:
        run: a run folder, or one checkpoint of it
        file: what to write, ending in .safetensors
        which: best (by validation, else the test) or newest, of a run folder's checkpoints
        raw: the weights themselves, where the run keeps a moving average of them
    """
    from safetensors.torch import save

    if file.suffix != ".safetensors":
        raise UserError(f"{file} should end in .safetensors: that is what is written")
    if which not in ("best", "newest"):
        raise UserError(f'--which is best or newest, not "{which}"')
    best = None
    if which == "best" and (run / CHECKPOINTS).is_dir():
        best = checkpoints.best_whole(run / CHECKPOINTS, "", _warn)
    folder = best or find(run, _warn)
    state, progress = load(folder)
    model, average = network_state(state, folder)
    weights = model if raw else model | average
    # Tensors that share memory (tied weights) are written out each: whoever loads them ties them again.
    tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    data = save(tensors, metadata={"step": str(progress.step), "epoch": str(progress.epoch), "format": "pt"})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, lambda sink: sink.write(data))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {reason(error)}") from None
    print(f"{file}: {len(tensors)} tensors of step {progress.step}")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)

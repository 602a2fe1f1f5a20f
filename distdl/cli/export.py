"""`distdl export RUN FILE.safetensors`: the weights of a run in a common format that cannot contain code."""

from typing import Annotated, Literal

import tyro

from distdl.core import checkpoints, ownership
from distdl.core.checkpoints import find
from distdl.core.config import FilePath
from distdl.core.errors import UserError, reason
from distdl.core.files import write_atomic
from distdl.core.run_files import CHECKPOINTS
from distdl.core.text import print_line


def export(
    run: Annotated[FilePath, tyro.conf.Positional],
    file: Annotated[FilePath, tyro.conf.Positional],
    *,
    which: Literal["best", "newest"] = "best",
    raw: bool = False,
) -> None:
    """Write a run's weights as safetensors, under the names of the network's state_dict.

    Args:
        run: a run folder, or one checkpoint of it
        file: the file to write; it ends in .safetensors
        which: checkpoint of a run folder: best (by validation, or test if there is none) or newest
        raw: write the weights, not their moving average, if the run keeps one
    """
    if file.suffix != ".safetensors":
        raise UserError(f"{file} must end in .safetensors, the format that is written")
    from safetensors.torch import save

    from distdl.runtime.tensors import load, network_state

    best = None
    if which == "best" and (run / CHECKPOINTS).is_dir():
        best = checkpoints.best_whole(run / CHECKPOINTS, "", _warn)
    folder = best or find(run, _warn)
    if message := ownership.warning(folder):
        _warn(message)
    state, progress = load(folder)
    model, average = network_state(state, folder)
    weights = model if raw else model | average
    # Tensors that share memory (tied weights) are written once each: the network that loads them ties them again.
    tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    data = save(tensors, metadata={"step": str(progress.step), "epoch": str(progress.epoch), "format": "pt"})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, lambda sink: sink.write(data))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {reason(error)}") from None
    print_line(f"{file}: {len(tensors)} tensors of step {progress.step}")


def _warn(message: str) -> None:
    print_line(f"warning: {message}", to_stderr=True)

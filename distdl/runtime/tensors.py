"""Files of tensors and plain values. Reading a file executes no code in it."""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from distdl.core.errors import UserError, reading
from distdl.core.files import write_atomic
from distdl.core.manifest import STATE, Progress
from distdl.core.regular import require_regular

REPEATED_BYTES = 2**28
"""Maximum number of bytes of the repeated elements of a file's tensors. Some networks have expanded buffers."""


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Progress]:
    """Read state and position of a checkpoint. No code in the file is executed.

    Raises:
        UserError: if it is damaged, contains objects other than tensors and plain values, or does not exist, for
            example on a host that does not share the run folder's file system.
    """
    if not (folder / STATE).is_file():
        raise UserError(f"{folder / STATE} does not exist: every host must share the run folder's file system")
    state = read_tensors(folder / STATE, device)
    return state, Progress.of(folder)


def network_state(state: Mapping[str, Any], folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return weights and buffers of a checkpoint's network by name, and their moving average (empty without one).

    Raises:
        UserError: if the state does not contain them.
    """
    ema = state.get("ema") or {}
    average = ema.get("average") if isinstance(ema, Mapping) else None
    for tensors in (state.get("model"), average if ema else {}):
        if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise UserError(
                f"{folder / STATE} is not the state of a training: it does not contain the network's tensors"
            )
    return dict(state["model"]), dict(average or {})


def write_tensors(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values so that `read_tensors` reads them back without unpickling code."""
    host = _on_host(state)
    write_atomic(file, lambda sink: _save(host, sink))


def read_tensors(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of `write_tensors`.

    Raises:
        UserError: if the file is damaged, or has any other content.
    """
    state = read_pickled(file, device)
    if not isinstance(state, dict):
        raise UserError(f"{file} is not a state that distdl wrote")
    return state


def read_pickled(file: Path, device: Any = "cpu") -> Any:
    """Read a file that `torch.save` wrote. No code in it is executed.

    Raises:
        UserError: if the file is damaged, contains objects other than tensors and plain values, or would take more
            memory than it has bytes: compressed files, and tensors that repeat their elements.
    """
    with reading(file, "tensors"):
        require_regular(file)
        _refuse_compressed(file)
        try:
            state = torch.load(file, map_location=device, weights_only=True)
        except pickle.UnpicklingError:
            raise UserError(
                f"{file} is damaged, or has objects other than tensors and plain values, which distdl does not unpickle"
            ) from None
        repeated = sum(max(tensor.nbytes - tensor.untyped_storage().nbytes(), 0) for tensor in _tensors(state))
        if repeated > REPEATED_BYTES:
            raise UserError(f"{file} has tensors of {repeated:,} bytes more than it stores: copying them could fail")
    return state


def _refuse_compressed(file: Path) -> None:
    """Refuse an archive whose content is larger than its file. `torch.save` does not compress."""
    if not zipfile.is_zipfile(file):
        return  # written by an old version of torch, or damaged
    with zipfile.ZipFile(file) as archive:
        content = sum(entry.file_size for entry in archive.infolist())
    if content > file.stat().st_size:
        raise UserError(f"{file} unpacks to {content:,} bytes, more than it has: it was not written by torch.save")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in a value with memory of their own."""
    pending, seen = [value], set[int]()
    while pending:
        each = pending.pop()
        if isinstance(each, torch.Tensor):
            if each.layout is torch.strided and each.device.type != "meta":
                yield each
        elif isinstance(each, Mapping | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            pending += each.values() if isinstance(each, Mapping) else each


def _save(state: Mapping[str, Any], sink: IO[bytes]) -> None:
    try:
        torch.save(state, sink)
    except RuntimeError as error:
        # If the disk is full, torch's archive writer fails again when it closes, and hides the first error.
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _on_host(value: Any) -> Any:
    """Copy tensors to the host, so that training can change the originals."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_host(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_host(inner) for inner in value)
    return value

"""Ways to synchronize gradients across ranks: one protocol (`base.Strategy`) and a module for each strategy."""

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from distdl.core.errors import UserError

if TYPE_CHECKING:
    from distdl.core.config import Config
    from distdl.strategies.base import Strategy


class Entry(NamedTuple):
    """One strategy of the registry."""

    path: str
    """module:class."""
    settings: tuple[str, ...] = ()
    """Sections of the configuration that it reads, or single fields of a section. The others have no effect."""


STRATEGIES = {
    "single": Entry("distdl.strategies.base:Strategy"),
    "ddp": Entry("distdl.strategies.ddp:DDP", ("ddp",)),
    "horovod": Entry("distdl.strategies.horovod:Horovod", ("horovod",)),
    "deepspeed": Entry("distdl.strategies.deepspeed:DeepSpeed", ("deepspeed", "ddp.timeout_s")),
    "ps": Entry("distdl.strategies.paramserver.worker:ParameterServer", ("ps",)),
}


_SIZES = ("WORLD_SIZE", "HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE")


def choose(environ: Mapping[str, str] = os.environ) -> str:
    """What `strategy = "auto"` comes to: by whose launcher started this process."""
    if "HOROVOD_RANK" in environ:
        return "horovod"
    if int(environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1 and "RANK" not in environ:
        return "horovod"  # horovodrun --mpi, or mpirun without a place for torch's processes to meet
    if int(environ.get("WORLD_SIZE", "1")) > 1 or "TORCHELASTIC_RUN_ID" in environ:
        return "ddp"
    return "single"


def make(config: "Config") -> "Strategy":
    """The strategy that the configuration asks for, not yet set up."""
    name = choose() if config.strategy == "auto" else config.strategy
    ranks = next((os.environ[each] for each in _SIZES if each in os.environ), "1")
    if name == "single" and ranks != "1":
        raise UserError(f"strategy single takes one process, and {ranks} were started: set strategy to ddp or auto")
    module, cls = STRATEGIES[name].path.split(":")
    return getattr(importlib.import_module(module), cls)(config)

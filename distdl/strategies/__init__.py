"""Ways to synchronize gradients across ranks: one protocol (`base.Strategy`) and a module for each strategy."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from distdl.core import registry
from distdl.core.errors import UserError

if TYPE_CHECKING:
    from distdl.core.config import Config
    from distdl.strategies.base import Strategy


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
    return registry.make("strategies", name, config, options=config.options.get("strategy"))

"""How gradients meet: one protocol (`base.Strategy`) and a module for each way."""

import importlib
import os
from collections.abc import Mapping

from distdl.config import Config
from distdl.strategies.base import Strategy

STRATEGIES = {
    "single": "distdl.strategies.base:Strategy",
    "ddp": "distdl.strategies.ddp:DDP",
    "horovod": "distdl.strategies.horovod:Horovod",
    "deepspeed": "distdl.strategies.deepspeed:DeepSpeed",
    "ps": "distdl.strategies.paramserver:ParameterServer",
}


def choose(environ: Mapping[str, str] = os.environ) -> str:
    """What `strategy = "auto"` comes to: by whose launcher started this process."""
    if "HOROVOD_RANK" in environ:
        return "horovod"
    if int(environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1 and "RANK" not in environ:
        return "horovod"  # horovodrun --mpi, or mpirun without a place for torch's processes to meet
    if int(environ.get("WORLD_SIZE", "1")) > 1 or "TORCHELASTIC_RUN_ID" in environ:
        return "ddp"
    return "single"


def make(config: Config) -> Strategy:
    """The strategy that the configuration asks for, not yet set up."""
    name = choose() if config.strategy == "auto" else config.strategy
    module, cls = STRATEGIES[name].split(":")
    return getattr(importlib.import_module(module), cls)(config)

"""Ways to synchronize gradients across ranks: one protocol (`base.Strategy`) and a module for each strategy."""

from typing import TYPE_CHECKING

from distdl.core import registry
from distdl.core.errors import UserError
from distdl.runtime.launch_env import choose_strategy, launched_ranks

if TYPE_CHECKING:
    from distdl.core.config import Config
    from distdl.strategies.base import Strategy


def make(config: "Config") -> "Strategy":
    """Make the strategy of a configuration, not yet set up."""
    name = choose_strategy() if config.strategy == "auto" else config.strategy
    ranks = launched_ranks()
    if name == "single" and ranks != 1:
        raise UserError(f"strategy single takes one process, and {ranks} were started: set strategy to ddp or auto")
    return registry.make("strategies", name, config, options=config.options.get("strategy"))

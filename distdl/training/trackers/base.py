"""Experiment trackers: services or files that receive the metrics of a run (`Config.trackers`).

A tracker of another package is given as package.module:Class, or by an entry point of the group distdl.trackers:

    class MyTracker:
        def __init__(self, run: Path, *, project: str = "distdl"):
            self.client = connect(project, run.name)

        def log_config(self, config): ...
        def log_metrics(self, values, step): ...
        def log_result(self, result): ...
        def close(self, status): ...

    distdl train --trackers my_package:MyTracker --options my_package:MyTracker.project=cifar

A tracker exists on rank 0 only. It is made when the run folder exists. An exception in its constructor or a method ends
this tracker with one warning; the training continues. A tracker that lacks a method ends the training at its start.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from distdl.core import factories as components
from distdl.core.config import Config


class Tracker(Protocol):
    """Receives a run. The methods are called in this order; `log_metrics` any number of times."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """The configuration, as the table of config.toml."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Values by name (train/loss, train/lr, test/accuracy, ...) after a number of steps.

        A resumed run continues at the step of its checkpoint: values that an earlier start logged after that step must
        be replaced.
        """

    def log_result(self, result: Mapping[str, Any]) -> None:
        """The content of result.json."""

    def close(self, status: str) -> None:
        """Close the tracker. `status`: completed, stopped or failed."""


TrackerFactory = Callable[[Path], Tracker]
"""Makes a tracker for a run folder."""


def names(config: Config) -> tuple[str, ...]:
    """The configured trackers, including the one that the older field `telemetry.tensorboard` selects."""
    older = ("tensorboard",) if config.telemetry.tensorboard else ()
    return tuple(dict.fromkeys((*config.trackers, *older)))


def factories(config: Config) -> dict[str, TrackerFactory]:
    """Factories of the configured trackers, by name. Nothing is contacted or written yet.

    Raises:
        UserError: for an unknown tracker, one that is not installed or lacks a method, and a setting that it does not
            have.
    """
    return {name: _factory(name, config.options.get(name, {})) for name in names(config)}


def _factory(name: str, options: Mapping[str, Any]) -> TrackerFactory:
    component = components.get("trackers", name)
    construct = component.bound(options)
    return lambda run: component.require(construct(run))

"""One training, from a strategy that is set up to a closed run folder. Called by `distdl.train` and by studies."""

import sys
import time
from typing import Any

from rich.console import Console

from distdl.core.config import Config
from distdl.core.console import PlainConsole
from distdl.core.contracts import ComponentError
from distdl.core.errors import Failure, UserError
from distdl.core.rundir import RunDir
from distdl.data.sets.load import load
from distdl.models.build import find
from distdl.runtime.environment import environment
from distdl.strategies.agreement import agree
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text
from distdl.training import entry
from distdl.training.callbacks.display import Display, Warnings, closing_table, servers_table, stopped_at
from distdl.training.callbacks.forecast import Forecast
from distdl.training.callbacks.metrics import MetricsSink
from distdl.training.callbacks.telemetry import telemetry
from distdl.training.callbacks.tracking import Tracking
from distdl.training.entry import Entry
from distdl.training.events import Callback
from distdl.training.resumption import check_remaining
from distdl.training.trackers.base import factories
from distdl.training.trainer import Trainer


def train(
    config: Config,
    strategy: Strategy,
    callbacks: tuple[Callback, ...] = (),
    *,
    began: float | None = None,
    exits: bool = False,
) -> str:
    """Train to the end or until a signal stops it. Returns "completed" or "stopped"; results are in the run folder.

    The user's input is checked completely before the run folder is entered. From then on result.json states how the run
    ended.

    Args:
        strategy: a strategy that is set up, in the role "train".
        callbacks: callbacks in addition to the default ones.
        began: Unix time since which the run has held its devices; default: now.
        exits: the process exits after this training: stop signals are ignored once its state is saved.
    Raises:
        UserError: if the training cannot start; nothing was written.
    """
    measuring = telemetry(time.time() if began is None else began)
    location = entry.find(config, strategy)
    find(config.model.name)  # an unknown name fails before the data set is read
    dataset = load(config.data, config.options.get("dataset"))
    agree(strategy, config, dataset)
    run = RunDir(location.path)
    is_writer = strategy.world.rank == 0
    console = PlainConsole(quiet=not is_writer or config.progress == "none")
    trackers = factories(config)  # on every rank, so that a wrong setting fails on all of them
    tracking = Tracking(trackers if is_writer else {})
    all_callbacks = (*measuring, *(default_callbacks(config, console) if is_writer else ()), tracking, *callbacks)
    trainer = Trainer(config, strategy, dataset, run, all_callbacks)
    if config.telemetry.tensorboard:
        trainer.messages.append("telemetry.tensorboard is an older name: use --trackers tensorboard")
    try:
        if location.start is not None:
            trainer.resume(location.start)
            check_remaining(trainer, location.start)
        enter(trainer, location)
    except BaseException:
        trainer.close_loaders()
        trainer.stop.close()
        raise
    status, result, first_step, is_unusable = "failed", {}, trainer.progress.step, False
    try:
        status = trainer.fit()
        if exits:
            trainer.stop.ignore()
    except UserError as error:
        is_unusable = isinstance(error, ComponentError) and trainer.progress.step == first_step
        if is_unusable:
            raise  # an invalid component, detected at its first use, is an error like those before the start
        # The training has started and has changed its run folder, so exit code 2 would be wrong.
        raise Failure(f"{error}; --resume auto continues from the last checkpoint") from None
    finally:
        trainer.close()
        if is_writer:
            result = trainer.result(status)
            run.result(result)
            tracking.end(trainer, result)
        (run.discard if is_unusable and is_writer else run.close)()
        if status == "failed" or not exits:
            trainer.stop.close()  # last: a signal from a launcher that ends the job must not interrupt the writing
    # A rank that exits with another code than 0 (75 when stopped) makes launchers end the other ranks: wait for them.
    strategy.barrier()
    if is_writer:
        _print_end(trainer, console, status, result)
    return status


def _print_end(trainer: Trainer, console: Console, status: str, result: dict[str, Any]) -> None:
    """Print the results, the run folder and, for a stopped run, how to resume it."""
    console.print(closing_table(result))
    if servers := servers_table(result):
        console.print(servers)
    console.print(f"run folder: {trainer.run.path}", soft_wrap=True)
    if status == "stopped":
        console.print(stopped_at(trainer), soft_wrap=True)  # last: a launcher prints its own messages after it
    sys.stdout.flush()


def enter(trainer: Trainer, location: Entry) -> None:
    """Enter the run folder: when all ranks are ready, rank 0 locks it and writes the values known at the start.

    Raises:
        UserError: on every rank, if rank 0 cannot enter it; nothing was written.
    """
    strategy, message = trainer.strategy, ""
    strategy.barrier()
    if strategy.world.rank == 0:
        progress = trainer.progress
        leg = {
            "from_epoch": round(trainer.position, 6),
            "epochs": trainer.config.epochs,
            "world_size": trainer.world.size,
            "global_batch": trainer.global_batch,
            "changed": trainer.changes,
            **({"resumed_from": str(location.source)} if location.source else {}),
        }
        try:
            trainer.run.enter(
                trainer.config,
                strategy=strategy.name,
                environment=environment(),
                running=trainer.identity(),
                leg=leg,
                step=progress.step,
                evaluated=location.evaluated,
                seen=location.seen,
            )
        except UserError as error:
            message = str(error)
    message = broadcast_text(strategy, message)
    if message:
        raise UserError(message)
    strategy.open_records(trainer.run.path)


def default_callbacks(config: Config, console: Console) -> tuple[Callback, ...]:
    """The callbacks that rank 0 adds for the user."""
    sinks: list[Callback] = [MetricsSink()]
    forecast = Forecast(config.predict.target) if config.predict.target else None
    if forecast:
        sinks.append(forecast)
    sinks.append(Warnings() if config.progress == "none" else Display(config.progress, console, forecast))
    return tuple(sinks)

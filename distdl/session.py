"""One training from a set-up strategy to a closed run folder: what `distdl.train` and studies both call."""

import time
from pathlib import Path

from rich.console import Console

from distdl import checkpoint
from distdl.config import Config
from distdl.data.datasets import load
from distdl.display import Display, closing_table, servers_table
from distdl.errors import UserError
from distdl.events import Callback
from distdl.forecast import Forecast
from distdl.rundir import RunDir, default_path
from distdl.strategies.agreement import agree
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text
from distdl.telemetry.callback import Telemetry
from distdl.telemetry.sinks import MetricsSink, TensorBoardSink
from distdl.trainer import Trainer


def train(
    config: Config, strategy: Strategy, callbacks: tuple[Callback, ...] = (), *, began: float | None = None
) -> str:
    """Train to the end or until told to stop. Returns "completed" or "stopped"; the run folder holds the rest.

    Args:
        strategy: set up, in the role of training.
        callbacks: listeners beside the usual ones.
        began: Unix time from which the run holds its devices; without it, now.
    """
    telemetry = Telemetry(time.time() if began is None else began)
    dataset = load(config.data)
    agree(strategy, config, dataset)
    run, start = open_run(config, strategy)
    strategy.folder = run.path
    speaks = strategy.world.rank == 0
    console = Console() if speaks else Console(quiet=True)
    listeners = (telemetry, *(default_callbacks(config, console) if speaks else ()), *callbacks)
    trainer = Trainer(config, strategy, dataset, run, listeners)
    status = "failed"
    try:
        if start is not None:
            trainer.resume(start)
            if speaks:
                run.forget_after(trainer.progress.step)
        status = trainer.fit()
    finally:
        trainer.close()
        if speaks:
            result = trainer.result(status)
            run.result(result)
            run.close()
        trainer.stop.close()  # not before: a launcher that ends the job must not cut this short
    # Launchers end the others as soon as one exits with anything but 0 (75, when stopped): not before all is written.
    strategy.barrier()
    if speaks:
        console.print(closing_table(result))
        if servers := servers_table(result):
            console.print(servers)
        console.print(f"run folder: {run.path}", highlight=False, soft_wrap=True)
    return status


def default_callbacks(config: Config, console: Console) -> tuple[Callback, ...]:
    """Who listens on rank 0."""
    sinks: list[Callback] = [MetricsSink()]
    if config.telemetry.tensorboard:
        sinks.append(TensorBoardSink())
    forecast = Forecast(config.predict.target) if config.predict.target else None
    if forecast:
        sinks.append(forecast)
    if config.progress != "none":
        sinks.append(Display(config.progress, console, forecast))
    return tuple(sinks)


def open_run(config: Config, strategy: Strategy) -> tuple[RunDir, Path | None]:
    """The run folder, made by rank 0, and the checkpoint to go on from; the same on every rank.

    Raises:
        UserError: on every rank, for a folder that holds a run, cannot be written, or has nothing to resume.
    """
    answer, complaint = "", ""
    if strategy.world.rank == 0:
        try:
            path, start = _open(config, strategy.name)
            answer = f"{path}\n{start or ''}"
        except UserError as error:
            complaint = str(error)
    answer, complaint = broadcast_text(strategy, answer), broadcast_text(strategy, complaint)
    if complaint:
        raise UserError(complaint)
    path, start = answer.split("\n")
    return RunDir(Path(path)), Path(start) if start else None


def _open(config: Config, strategy: str) -> tuple[Path, Path | None]:
    path = config.out or default_path(config.name)
    start = None
    if config.resume:
        wanted = path if config.resume == "auto" else Path(config.resume)
        has_any = (wanted / "checkpoints").is_dir() and any((wanted / "checkpoints").glob("step-*"))
        if config.resume != "auto" or has_any:
            start = checkpoint.find(wanted, warn=lambda text: print(f"warning: {text}"))
    RunDir.create(path, config, strategy=strategy, resume=config.resume == "auto" or start is not None)
    return path.resolve(), start

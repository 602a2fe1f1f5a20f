"""Display of rank 0: a progress line during training, and a final table of the time spent in each phase."""

import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from distdl.core.phases import EXPLAIN, per_step
from distdl.core.text import print_line, printable
from distdl.data.dataset import DataSet
from distdl.training.callbacks.forecast import Forecast
from distdl.training.events import Callback, Training
from distdl.training.metrics import RESERVED
from distdl.training.resume_command import resume_command

FEW_STEPS = 10
"""Steps per epoch below which a warning is shown: the schedule is coarse, and the batch large for the data set."""


class Display(Callback):
    """Shows epoch, loss, accuracy, images/s and remaining time: live on a terminal, else one line per evaluation."""

    def __init__(self, mode: str, console: Console, forecast: Forecast | None = None) -> None:
        self.console, self._forecast = console, forecast
        self._live = mode == "live" or (mode == "auto" and self.console.is_terminal)
        self._bar: Progress | None = None

    def begin(self, trainer: Training) -> None:
        world, loader = trainer.world, trainer.loaders["train"]
        ranks = f"{world.size} rank" + "s" * (world.size > 1)
        self.console.print(
            Text.assemble(
                (printable(trainer.config.name), "bold"),
                f": {printable(trainer.config.model.name)} on {printable(trainer.dataset.name)}, "
                f"{trainer.strategy.name}, {ranks}, {world.device.type}, global batch {trainer.global_batch}",
            )
        )
        self.console.print(Text(split_sizes(trainer.dataset, trainer.config.data.validation)))
        self.console.print(Text(printable(f"loader {loader.name}: {loader.reason}"), "dim"))
        if trainer.progress.resumes:
            self.console.print(f"resumed at {position(trainer)}", style="dim")
        for note in trainer.dataset.notes:
            self.console.print(Text(printable(f"note: {note}"), "yellow"))
        if len(loader) < FEW_STEPS:
            self.warn(
                trainer,
                f"an epoch has {len(loader)} step{'s' * (len(loader) > 1)}: {len(trainer.dataset.train):,} training "
                f"images in global batches of {trainer.global_batch:,}; a smaller data.batch_size trains in more steps",
            )
        self._accuracy, self._next = "", 0.0
        self._images, self._since_s = trainer.progress.images, trainer.progress.elapsed_s
        if self._live:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("epoch", total=trainer.epochs, text="")
            self._bar.update(self._task, completed=trainer.position)
            self._bar.start()

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        now = time.perf_counter()
        if self._bar is None or now < self._next:
            return
        self._next = now + max(trainer.config.log_every_s, 0.25)
        text = f"loss {loss.item():.4f}{self._accuracy} {self._rate(trainer):,.0f} img/s{self._forecast_suffix()}"
        name = f"epoch {min(int(trainer.position) + 1, trainer.config.epochs)}/{trainer.config.epochs}"
        self._bar.update(self._task, completed=trainer.position, description=name, text=text)

    def _forecast_suffix(self) -> str:
        return f"  {self._forecast.text}" if self._forecast and self._forecast.text else ""

    def _rate(self, trainer: Training) -> float:
        progress = trainer.progress
        images, seconds = progress.images - self._images, progress.elapsed_s - self._since_s
        return images / seconds if seconds else 0.0

    def evaluate_end(self, trainer: Training, split: str, metrics: dict[str, float]) -> None:
        self._accuracy = f" accuracy {metrics['accuracy']:.2%}"
        if self._bar is None:
            self.console.print(
                f"epoch {metrics['epoch']:g}/{trainer.config.epochs}  {split} loss {metrics['loss']:.4f}  "
                f"accuracy {metrics['accuracy']:.2%}  {self._rate(trainer):,.0f} images/s{self._forecast_suffix()}",
            )

    def warn(self, trainer: Training, message: str) -> None:
        self.console.print(Text(printable(f"warning: {message}"), "yellow"), soft_wrap=not self.console.is_terminal)

    def close(self, trainer: Training) -> None:
        if self._bar is not None:
            self._bar.stop()


class Warnings(Callback):
    """Prints warnings alone, on stderr: the display of --progress none."""

    def warn(self, trainer: Training, message: str) -> None:
        print_line(f"warning: {message}", to_stderr=True)


def position(trainer: Training) -> str:
    """Step and epoch of a training, as text."""
    return f"step {trainer.progress.step}, epoch {trainer.position:.2f} of {trainer.config.epochs}"


def stopped_at(trainer: Training) -> str:
    """Lines about a training that was stopped: its position and checkpoint, and the command that resumes it, if any."""
    checkpoint, command = trainer.checkpoints.list()[-1], resume_command(trainer.run.path)
    line = f"stopped ({trainer.stop.reason or 'another rank'}) at {position(trainer)}; checkpoint {checkpoint}"
    return f"{line}\nresume with: {command}" if command else line


def split_sizes(dataset: DataSet, validation: float) -> str:
    """Images by split and the number of classes: "train 30, validation 30, test 30 images, 5 classes".

    Args:
        validation: share of the training images that is held out for validation (data.validation).
    """
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    counts = [f"{name} {len(split):,}" for name, split in splits.items() if split is not None]
    if validation:
        counts[1] += f" (held out from training by data.validation {validation:g})"
    classes = len(dataset.classes)
    return f"{', '.join(counts)} images, {classes:,} class{'es' * (classes != 1)}"


def closing_table(result: dict[str, Any]) -> Table:
    """Accuracy and speed of a run, and the time of each phase of a step, from its result.json."""
    title = f"{result['name']}: {result['status']}"
    split = next((name for name in ("test", "validation") if name in result), None)
    if split:
        metrics = result[split]
        title += f", {split} accuracy {metrics['accuracy']:.2%}, loss {metrics['loss']:.4f}"
        title += "".join(f", {name} {value:.4f}" for name, value in metrics.items() if name not in RESERVED)
        if metrics.get("best") or metrics["step"] != result["steps"]:
            title += f" (weights of epoch {metrics['epoch']:g})"
    if result.get("ps", {}).get("replayed"):
        title += ", compute replayed"
    caption = f"{result['images_per_s']:,.0f} images/s over {result['train_s']:.1f} s of training"
    caption += f", {result['evaluate_s']:.1f} s of evaluation, {result['steps']} steps"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("phase of a step")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    table.add_column("description")
    for phase in per_step(result):
        table.add_row(phase.name, f"{phase.step_s * 1e3:.3f}", f"{phase.share:.1%}", EXPLAIN[phase.name])
    return table


def servers_table(result: dict[str, Any]) -> Table | None:
    """Size and load of each parameter server, and the times of a worker's exchange; None for other strategies."""
    served = result.get("ps")
    if not served:
        return None
    workers = f"{served['workers']} worker" + "s" * (served["workers"] > 1)
    table = Table(title=f"parameter servers, {served['mode']}, {workers}", title_justify="left")
    for name in ("server", "bytes", "requests", "imbalance"):
        table.add_column(name, justify="right")
    for number, row in enumerate(served["servers"]):
        table.add_row(str(number), f"{row['bytes']:,}", str(row["requests"]), f"{row['imbalance']:.3f}")
    parts = ", ".join(
        f"{name} {served['medians'][f'{name}_s'] * 1e3:.1f}" for name in ("push", "wait", "pull", "update")
    )
    table.caption = f"worker 0, ms per step: {parts} (update is part of wait)"
    if served["mode"] != "sync":
        table.caption += f"; staleness {min(served['staleness'])} to {max(served['staleness'])} updates"
    if served["stragglers"]:
        table.caption += f"; stragglers: {', '.join(served['stragglers'])}"
    table.caption_justify = "left"
    return table

"""One process at a board: it trains for an epoch from a slot, scores it, offers it, and takes the next.

A slice ends in order (exit code 75) before its time is over, and whoever comes next goes on: all there is to know is on
the board.
"""

import contextlib
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distdl.core.errors import EXIT_STOPPED, Failure, UserError
from distdl.core.manifest import STATE, damaged
from distdl.core.profiles import Recipe, resolve
from distdl.core.rundir import RunDir
from distdl.data.sets.load import load
from distdl.runtime import tensors
from distdl.runtime.environment import environment
from distdl.strategies.single import Single
from distdl.studies.leaderboard.board import Board, Seat
from distdl.studies.leaderboard.event_log import State, Take
from distdl.studies.leaderboard.history import most_at_once
from distdl.studies.leaderboard.profiles import TrainingProfile, profile_at
from distdl.studies.leaderboard.rules import Population, Ratchet, Rule
from distdl.studies.leaderboard.trials import board_of
from distdl.telemetry.accounting import account
from distdl.training.callbacks.metrics import MetricsSink
from distdl.training.callbacks.telemetry import Telemetry
from distdl.training.summary import telemetry_rows
from distdl.training.trainer import Trainer

Table = Mapping[str, Any]
RESERVE_S = 5.0
"""Of a slice, for a process's end after its last epoch."""


def work(folder: Path, table: Table) -> dict[str, Any]:
    """A trial's call: one process, for one slice or until the attempt is over. Exits with 75 if it is not over.

    Raises:
        Failure: not even one epoch fits into a slice.
    """
    seat = Seat(board_of(folder, table), rule_of(table), name=folder.name, job=os.environ.get("SLURM_JOB_ID", ""))
    ended, device = "failed", ""
    try:
        if is_over(seat.look(), table):
            ended = "completed"
        else:
            with trainer_of(folder, table, max_time=table["eon_lifetime_s"]) as trainer:
                device = trainer.world.device.type
                ended = _Worker(seat, trainer, table).run()
    finally:
        seat.leave(ended)
    if ended == "stopped":
        raise SystemExit(EXIT_STOPPED)
    return {"device": device, **account_of(folder, seat)}


def top(folder: Path, table: Table) -> dict[str, Any]:
    """A trial's call, when an attempt is over: its best slot on the test set, and what the attempt took.

    Raises:
        Failure: nothing was ever published.
    """
    board = Board(board_of(folder, table))
    state, rows = board.state(), board.rows()
    if state.best is None:
        raise Failure(f"the board {board.folder} has no slot: no process ended an epoch")
    with trainer_of(folder, table) as trainer:
        trainer.resume(board.slot(state.best.name))
        tested = trainer.evaluate("test")
    return {
        "test": tested,
        "score": state.best.score,
        "slot": state.best.name,
        "epoch": state.best.epoch,
        "epochs": state.epochs,
        "published": state.published,
        "cut": state.cut,
        "compute_s": state.compute_s(time.time()),
        "epoch_s": statistics.median(row["epoch_s"] for row in rows if row["kind"] in ("publish", "drop")),
        "slices": len(state.slices),
        "lost_slices": sum(one.ended == "lost" for one in state.slices),
        "at_once": most_at_once(rows),
    }


def rule_of(table: Table) -> Rule:
    """The rule of a trial's board."""
    if table["rule"] == "ratchet":
        return Ratchet(slots=table["slots"])
    return Population(slots=table["slots"], beginnings=tuple(table["profiles"]), seed=table["seed"])


def is_over(state: State, table: Table) -> bool:
    """Whether an attempt needs no further epoch, beside those that are under way."""
    begun, wanted = state.epochs + len(state.open), table["epochs"]
    return state.compute_s(time.time()) >= table["total_lifetime_s"] or 0 < wanted <= begun


def account_of(folder: Path, board: Board) -> dict[str, Any]:
    """What a trial's slices came to, all together, and whether its device was used."""
    mine = [row for row in board.rows() if row["process"].startswith(f"{folder.name}@")]
    count = {kind: sum(row["kind"] == kind for row in mine) for kind in ("begin", "publish", "drop", "cut")}
    held_s = sum(row["at"] * {"begin": -1, "end": 1}.get(row["kind"], 0) for row in mine)
    epochs = count["publish"] + count["drop"]
    used = account(telemetry_rows(folder / "run"), seconds=held_s, devices=1, epochs=epochs, images=0)
    slices = {"slices": count["begin"], "published": count["publish"], "dropped": count["drop"], "cut": count["cut"]}
    return {**slices, **asdict(used)}


@contextlib.contextmanager
def trainer_of(folder: Path, table: Table, *, max_time: float = 0.0) -> Iterator[Trainer]:
    """A trainer with its data and its run folder, that is driven from outside.

    Raises:
        UserError: for an optimizer or a schedule that leaves the profiles nothing to say.
    """
    began = time.time()
    invocation = {"out": folder / "run", "resume": "auto", "max_time": max_time}
    config = resolve(Recipe(**table["recipe"]).updated(invocation), strategy="single")
    if (config.schedule.name, config.optim.name) != ("constant", "sgd"):
        raise UserError(
            "the training profiles set rate, momentum and penalty of each epoch: schedule.name must be constant and "
            f"optim.name sgd, not {config.schedule.name} and {config.optim.name}"
        )
    strategy = Single(config)
    strategy.setup()
    run = RunDir(folder / "run")
    trainer = Trainer(config, strategy, load(config.data), run, (Telemetry(began), MetricsSink()))
    # Slots of the board, not checkpoints of the folder, say where to continue: its rows are of all slices.
    run.enter(config, strategy=strategy.name, environment=environment(), running=trainer.identity(), step=None)
    try:
        trainer.events.begin(trainer)
        yield trainer
    finally:
        trainer.close()
        run.result({"status": "completed", **trainer.identity()})
        run.close()
        trainer.stop.close()
        strategy.close()


class _Worker:
    def __init__(self, seat: Seat, trainer: Trainer, table: Table) -> None:
        self.seat, self.trainer, self.table = seat, trainer, table
        self.profiles = [TrainingProfile(**profile) for profile in table["profiles"]]
        self.until = time.monotonic() + table["eon_lifetime_s"]
        self.split = "validation" if "validation" in trainer.loaders else "test"
        self.longest_s = 0.0
        rate = trainer.config.optim.lr
        self.rows = next(one for one in trainer.events.callbacks if isinstance(one, MetricsSink))
        self.factors = [group["peak_lr"] / rate for group in trainer.optimizer.param_groups]

    def run(self) -> str:
        """Until the attempt is over ("completed"), or the slice is, or a signal came ("stopped")."""
        while not is_over(self.seat.look(), self.table):
            if self.longest_s and time.monotonic() + self.longest_s + RESERVE_S > self.until:
                return "stopped"
            take = self.seat.take()
            if self._load(take) and not self._train(take):
                if not self.longest_s and self.trainer.stop.reason == "max_time":
                    raise Failure(
                        f"eon_lifetime_s = {self.table['eon_lifetime_s']:g} s is over before an epoch is: give more"
                    )
                return "stopped"
        return "completed"

    def _load(self, take: Take) -> bool:
        if take.slot is None:
            self.trainer.start_over(self.trainer.config.seed * 1_000_003 + take.number)
            return True
        folder = self.seat.slot(take.slot)
        if why := damaged(folder):
            self.trainer.events.warn(self.trainer, f"slot {folder} is damaged ({why}), and is taken off the board")
            self.seat.retire(take.slot, why)
            self.seat.give_back(take)
            return False
        self.trainer.resume(folder)
        return True

    def _train(self, take: Take) -> bool:
        """The epoch, its score, and the offer. False when stopped on the way: then the take is given back."""
        trainer, since = self.trainer, time.perf_counter()
        settings = take.settings or asdict(profile_at(self.profiles, trainer.progress.epoch, take.tries))
        self._set(settings)
        self.rows.begin(trainer)  # its rates count from this slot's counters
        try:
            if not trainer.train_epoch(order=take.number):
                self.seat.give_back(take)
                return False
            trainer.end_epoch()
            reached = trainer.evaluate(self.split)
            score = reached["accuracy"] if math.isfinite(reached["loss"]) else math.nan
        except Failure as failure:  # a loss that is not a number ends this branch, and not the process
            trainer.events.warn(trainer, str(failure))
            score = math.nan
        epoch_s = time.perf_counter() - since
        self.longest_s = max(self.longest_s, epoch_s)
        self.seat.offer(
            take,
            score,
            progress=asdict(trainer.progress),
            write=lambda beside: tensors.write_tensors(beside / STATE, trainer.state_dict()),
            epoch_s=epoch_s,
            settings=settings,
        )
        return True

    def _set(self, settings: Mapping[str, Any]) -> None:
        """From now on train with these; the momentum that the checkpoint brought stays."""
        for group, factor in zip(self.trainer.optimizer.param_groups, self.factors, strict=True):
            group["lr"] = group["peak_lr"] = settings["lr"] * factor
            group["momentum"] = settings["momentum"]
            group["weight_decay"] = settings["weight_decay"] if group["penalised"] else 0.0

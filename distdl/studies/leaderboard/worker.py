"""A process that uses a board: it trains for an epoch from a slot, evaluates and submits the weights, and repeats.

A slice ends with exit code 75 before its time limit, and another process continues: the board contains the whole state.
"""

import contextlib
import math
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
from distdl.runtime.launch_env import slurm_job
from distdl.strategies.single import Single
from distdl.studies.leaderboard.board import Board, Session
from distdl.studies.leaderboard.event_log import BoardState, Lease
from distdl.studies.leaderboard.history import max_simultaneous
from distdl.studies.leaderboard.profiles import TrainingProfile, profile_at
from distdl.studies.leaderboard.rules import PopulationBased, ReplaceWorst, Rule
from distdl.studies.leaderboard.trials import board_of
from distdl.telemetry.accounting import account
from distdl.training import building
from distdl.training.callbacks.metrics import MetricsSink
from distdl.training.callbacks.telemetry import telemetry
from distdl.training.summary import telemetry_rows
from distdl.training.trainer import Trainer

TrialTable = Mapping[str, Any]
RESERVE_S = 5.0
"""Seconds reserved at the end of a slice for the shutdown of the process."""


def work(folder: Path, table: TrialTable) -> dict[str, Any]:
    """Run a trial: one process, for one slice or until the attempt is over. Exits with code 75 if it is not over.

    Raises:
        Failure: if a slice is shorter than an epoch.
    """
    session = Session(board_of(folder, table), rule_of(table), name=folder.name, job=slurm_job().id)
    ended, device = "failed", ""
    try:
        if is_over(session.refresh(), table):
            ended = "completed"
        else:
            with trainer_of(folder, table, max_time=table["slice_s"]) as trainer:
                device = trainer.world.device.type
                ended = _Worker(session, trainer, table).run()
    finally:
        session.leave(ended)
    if ended == "stopped":
        raise SystemExit(EXIT_STOPPED)
    return {"device": device, **account_of(folder, session)}


def top(folder: Path, table: TrialTable) -> dict[str, Any]:
    """Run the last trial of an attempt: test its best slot, and add up its cost.

    Raises:
        Failure: if the board has no slot.
    """
    board = Board(board_of(folder, table))
    state, rows = board.state(), board.rows()
    if state.best is None:
        raise Failure(f"the board {board.folder} has no slot: no process has completed an epoch")
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
        "lost_slices": sum(each.ended == "lost" for each in state.slices),
        "at_once": max_simultaneous(rows),
    }


def rule_of(table: TrialTable) -> Rule:
    """The rule of a trial's board."""
    if table["rule"] == "ratchet":
        return ReplaceWorst(slots=table["slots"])
    return PopulationBased(slots=table["slots"], beginnings=tuple(table["profiles"]), seed=table["seed"])


def is_over(state: BoardState, table: TrialTable) -> bool:
    """Whether an attempt needs no further epoch besides those that have started."""
    started, total = state.epochs + len(state.open), table["epochs"]
    return state.compute_s(time.time()) >= table["total_lifetime_s"] or 0 < total <= started


def account_of(folder: Path, board: Board) -> dict[str, Any]:
    """Return the totals of a trial's slices, and the use of its device."""
    rows = [row for row in board.rows() if row["process"].startswith(f"{folder.name}@")]
    count = {kind: sum(row["kind"] == kind for row in rows) for kind in ("begin", "publish", "drop", "cut")}
    held_s = sum(row["at"] * {"begin": -1, "end": 1}.get(row["kind"], 0) for row in rows)
    epochs = count["publish"] + count["drop"]
    used = account(telemetry_rows(folder / "run"), seconds=held_s, devices=1, epochs=epochs, images=0)
    slices = {"slices": count["begin"], "published": count["publish"], "dropped": count["drop"], "cut": count["cut"]}
    return {**slices, **asdict(used)}


@contextlib.contextmanager
def trainer_of(folder: Path, table: TrialTable, *, max_time: float = 0.0) -> Iterator[Trainer]:
    """Context with a trainer, its data set and its run folder; this module calls its epochs.

    Raises:
        UserError: if optimizer or schedule conflict with the training profiles.
    """
    began = time.time()
    invocation = {"out": folder / "run", "resume": "auto", "max_time": max_time}
    config = resolve(Recipe(**table["recipe"]).updated(invocation), strategy="single")
    if (config.schedule.name, config.optim.name) != ("constant", "sgd"):
        raise UserError(
            "the training profiles set learning rate, momentum and weight decay of each epoch: schedule.name must be "
            f"constant and optim.name sgd, not {config.schedule.name} and {config.optim.name}"
        )
    strategy = Single(config)
    strategy.setup()
    run = RunDir(folder / "run")
    dataset = load(config.data, config.options.get("dataset"))
    trainer = Trainer(config, strategy, dataset, run, (*telemetry(began), MetricsSink()))
    # The state is in the board's slots, not in checkpoints of this folder, which contains the rows of all slices.
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


def start_over(trainer: Trainer, seed: int) -> None:
    """Restart at step 0 with the initial weights of `seed`."""
    network = building.network(trainer.config, trainer.dataset, seed)
    trainer.strategy.load_model_state(network.state_dict())
    trainer.state.restart()
    trainer.guard.reset()


class _Worker:
    def __init__(self, session: Session, trainer: Trainer, table: TrialTable) -> None:
        self.session, self.trainer, self.table = session, trainer, table
        self.profiles = [TrainingProfile(**profile) for profile in table["profiles"]]
        self.until = time.monotonic() + table["slice_s"]
        self.split = "validation" if "validation" in trainer.loaders else "test"
        self.longest_s = 0.0
        rate = trainer.config.optim.lr
        self.rows = next(each for each in trainer.events.callbacks if isinstance(each, MetricsSink))
        self.factors = [group["peak_lr"] / rate for group in trainer.optimizer.param_groups]

    def run(self) -> str:
        """Run until the attempt ("completed") or the slice is over, or a signal was received ("stopped")."""
        while not is_over(self.session.refresh(), self.table):
            if self.longest_s and time.monotonic() + self.longest_s + RESERVE_S > self.until:
                return "stopped"
            lease = self.session.lease()
            if self._load(lease) and not self._train(lease):
                if not self.longest_s and self.trainer.stop.reason == "max_time":
                    raise Failure(f"slice_s = {self.table['slice_s']:g} s is shorter than an epoch: increase it")
                return "stopped"
        return "completed"

    def _load(self, lease: Lease) -> bool:
        if lease.slot is None:
            start_over(self.trainer, self.trainer.config.seed * 1_000_003 + lease.number)
            return True
        folder = self.session.slot(lease.slot)
        if why := damaged(folder):
            self.trainer.events.warn(self.trainer, f"slot {folder} is damaged ({why}) and is removed from the board")
            self.session.retire(lease.slot, why)
            self.session.release(lease)
            return False
        self.trainer.resume(folder)
        return True

    def _train(self, lease: Lease) -> bool:
        """Train, evaluate and submit an epoch. If it is interrupted, releases the lease and returns False."""
        trainer, start = self.trainer, time.perf_counter()
        settings = lease.settings or asdict(profile_at(self.profiles, trainer.progress.epoch, lease.tries))
        self._set(settings)
        self.rows.begin(trainer)  # its rates count from this slot's counters
        try:
            # The order depends on the lease, so that branches from one slot see the samples in different orders.
            if not trainer.train_epoch(trainer.loaders["train"].epoch(lease.number, start=trainer.progress.samples)):
                self.session.release(lease)
                return False
            trainer.end_epoch()
            reached = trainer.evaluate(self.split)
            score = reached["accuracy"] if math.isfinite(reached["loss"]) else math.nan
        except Failure as failure:  # a non-finite loss ends this branch, but not the process
            trainer.events.warn(trainer, str(failure))
            score = math.nan
        epoch_s = time.perf_counter() - start
        self.longest_s = max(self.longest_s, epoch_s)
        self.session.submit(
            lease,
            score,
            progress=asdict(trainer.progress),
            write=lambda staging: tensors.write_tensors(staging / STATE, trainer.state_dict()),
            epoch_s=epoch_s,
            settings=settings,
        )
        return True

    def _set(self, settings: Mapping[str, Any]) -> None:
        """Apply the settings of an epoch; the momentum buffers of the checkpoint stay."""
        for group, factor in zip(self.trainer.optimizer.param_groups, self.factors, strict=True):
            group["lr"] = group["peak_lr"] = settings["lr"] * factor
            group["momentum"] = settings["momentum"]
            group["weight_decay"] = settings["weight_decay"] if group["penalised"] else 0.0

"""Leaderboard workers that train on digits in this process; an epoch takes a fraction of a second."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.errors import Failure, UserError
from distdl.core.manifest import STATE
from distdl.core.profiles import Recipe
from distdl.runtime import tensors
from distdl.studies.base import Outcome
from distdl.studies.leaderboard import STUDY, worker
from distdl.studies.leaderboard.board import Board
from distdl.studies.leaderboard.trials import LeaderboardSettings
from distdl.training import checkpoint
from jobs import wait_for

RECIPE = Recipe(
    profile="alexnet-leaderboard",
    overrides={
        "model.name": "digits-cnn",
        "data.name": "digits",
        "data.limit": 300,
        "data.image_size": 8,
        "data.batch_size": 64,
        "data.normalize": "set",
        "data.augment.crop": 1,
        "compute.threads": 1,
        "telemetry.hz": 0,
        "progress": "none",
    },
)
PROFILES = [
    {"name": "fast", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    {"name": "slow", "lr": 0.01, "momentum": 0.5, "weight_decay": 5e-4},
]


def table(**changes: Any) -> dict[str, Any]:
    usual = {"board": "b", "attempt": "scratch", "rule": "ratchet", "seed": 0, "slots": 2, "epochs": 6}
    usual |= {"recipe": asdict(RECIPE), "profiles": PROFILES, "total_lifetime_s": 1e6, "slice_s": 1e5}
    return usual | changes


def test_several_processes_train_an_attempt_and_its_best_is_tested(tmp_path: Path) -> None:
    study = tmp_path / "study"
    first = worker.work(study / "trials" / "b-process0", table(epochs=4))
    second = worker.work(study / "trials" / "b-process1", table(epochs=6))
    assert first["published"] + first["dropped"] == 4 and second["published"] + second["dropped"] == 2
    board = Board(study / "boards" / "b")
    assert board.inconsistencies() == []
    rows, state = board.rows(), board.state()
    used = {row["settings"]["name"] for row in rows if row["kind"] == "publish" and row["epoch"] == 1}
    assert used == {"fast"}  # both initial slots
    parents = {row["take"]: row for row in rows if row["kind"] == "take"}
    epochs = {row["take"]: row["epoch"] for row in rows if row["kind"] == "publish"}
    for row in rows:
        if row["kind"] in ("publish", "drop"):
            lease = parents[row["take"]]
            previous = epochs.get(lease["slot"], 0)
            assert row["epoch"] == previous + 1  # clones keep their counters
            assert row["settings"] == PROFILES[(previous + lease["tries"]) % 2]
    state_dict, progress = tensors.load(board.slot(state.best.name))
    assert (progress.epoch, progress.images) == (state.best.epoch, 300 * state.best.epoch)
    assert all(
        torch.any(slot["momentum_buffer"] != 0) for slot in state_dict["strategy"]["optimizer"]["state"].values()
    )

    tested = worker.top(study / "trials" / "b-top", table())
    assert tested["score"] == state.best.score and 0 < tested["test"]["accuracy"] <= 1
    assert (tested["epochs"], tested["slices"], tested["cut"]) == (6, 2, 0)
    with worker.trainer_of(tmp_path / "again" / "x", table()) as trainer:  # the score belongs to exactly these weights
        trainer.resume(board.slot(state.best.name))
        assert trainer.evaluate("validation")["accuracy"] == state.best.score


def test_a_clone_continues_with_the_same_bits_as_its_original(tmp_path: Path) -> None:
    ended = []
    with worker.trainer_of(tmp_path / "one", table()) as trainer:
        assert trainer.train_epoch(trainer.loaders["train"].epoch(3))
        trainer.end_epoch()
        folder = tmp_path / "slot"
        folder.mkdir()
        tensors.write_tensors(folder / STATE, trainer.state_dict())
        checkpoint.seal(folder, vars(trainer.progress), 0.5)
        assert trainer.train_epoch(trainer.loaders["train"].epoch(7))
        ended.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    with worker.trainer_of(tmp_path / "two", table()) as trainer:
        for order in (7, 8):
            worker.start_over(trainer, 99)  # as a process that has trained another slot in between
            trainer.resume(folder)
            assert trainer.train_epoch(trainer.loaders["train"].epoch(order))
            ended.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    original, clone, sibling = ended
    assert all(torch.equal(original[name], clone[name]) for name in original)
    assert not all(torch.equal(original[name], sibling[name]) for name in original)


def test_a_finished_slice_stops_cleanly_and_the_next_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "study" / "trials" / "b-process0"
    train = worker._Worker._train

    def slow(self, lease):  # as an epoch of a large network
        done = train(self, lease)
        self.longest_s = 1e4
        return done

    monkeypatch.setattr(worker._Worker, "_train", slow)
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            worker.work(folder, table(epochs=3, slice_s=5e3))
        assert stop.value.code == 75
    result = worker.work(folder, table(epochs=3, slice_s=5e3))
    assert (result["slices"], result["published"] + result["dropped"]) == (3, 3)
    state = Board(tmp_path / "study" / "boards" / "b").state()
    assert [each.ended for each in state.slices] == ["stopped", "stopped", "completed"]
    assert state.takes == 3 and not state.open


@pytest.mark.parametrize("overrides", [{"schedule.name": "cosine"}, {"optim.name": "rmsprop"}])
def test_overrides_of_profile_fields_are_refused(tmp_path: Path, overrides: dict[str, str]) -> None:
    with pytest.raises(UserError, match="training profiles set"):
        worker.work(tmp_path / "study" / "trials" / "b", table(recipe=asdict(RECIPE.updated(overrides))))


def test_the_next_process_continues_after_a_kill_within_an_epoch(tmp_path: Path) -> None:
    folder, board = tmp_path / "study" / "trials" / "b-process0", Board(tmp_path / "study" / "boards" / "b")
    code = (
        "import json, pathlib, sys; from distdl.studies.leaderboard import worker; "
        "worker.work(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]))"
    )
    endless = [sys.executable, "-c", code, str(folder), json.dumps(table(epochs=10**6))]
    process = subprocess.Popen(endless, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: process.poll() is not None or board.state().epochs >= 3, timeout=120)
    assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate()
    previous = board.state()
    worker.work(folder, table(epochs=previous.epochs + 2))
    state = board.state()
    assert [each.ended for each in state.slices] == ["lost", "completed"]
    assert (state.epochs, state.cut) == (previous.epochs + 2, len(previous.open))
    assert state.best.score >= previous.best.score and board.inconsistencies() == []


def test_the_total_lifetime_ends_an_attempt(tmp_path: Path) -> None:
    folder = tmp_path / "study" / "trials" / "b-process0"
    result = worker.work(folder, table(epochs=0, total_lifetime_s=0.5))
    again = worker.work(folder, table(epochs=0, total_lifetime_s=0.5))
    assert again["published"] + again["dropped"] == result["published"] + result["dropped"]
    assert Board(tmp_path / "study" / "boards" / "b").state().compute_s(0.0) >= 0.5


def test_a_slice_shorter_than_an_epoch_is_refused(tmp_path: Path) -> None:
    recipe = asdict(RECIPE.updated({"data.batch_size": 1}))
    with pytest.raises(Failure, match="is shorter than an epoch"):
        worker.work(tmp_path / "study" / "trials" / "b", table(recipe=recipe, slice_s=1e-6))
    state = Board(tmp_path / "study" / "boards" / "b").state()
    assert state.cut == 1 and [each.ended for each in state.slices] == ["failed"]


@pytest.mark.parametrize("rule", ["ratchet", "population"])
def test_an_epoch_with_a_nan_loss_is_dropped_and_the_process_continues(tmp_path: Path, rule: str) -> None:
    diverging = [{"name": "diverging", "lr": 1e20, "momentum": 0.9, "weight_decay": 0.0}, PROFILES[0]]
    result = worker.work(tmp_path / "study" / "trials" / "b", table(profiles=diverging, rule=rule, epochs=4))
    assert result["dropped"] >= 1 and result["published"] >= 1
    board = Board(tmp_path / "study" / "boards" / "b")
    assert board.inconsistencies() == []
    assert all(row["settings"]["name"] == "fast" for row in board.rows() if row["kind"] == "publish")


def test_a_damaged_slot_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "study" / "trials" / "b-process0"
    worker.work(folder, table(epochs=2))
    board = Board(tmp_path / "study" / "boards" / "b")
    best = board.state().best.name
    (board.slot(best) / STATE).write_bytes(b"x")
    worker.work(folder, table(epochs=4))
    assert best not in board.state().slots and board.inconsistencies() == []
    assert sum(row["kind"] == "retire" for row in board.rows()) == 1


def test_findings_show_the_boards(tmp_path: Path) -> None:
    settings = LeaderboardSettings(attempts=("scratch", "fine-tuned"), population=("scratch",), processes=1)
    outcomes = {}
    for trial in STUDY.trials(settings):
        folder = tmp_path / "study" / "trials" / trial.name
        settings_of_trial = table(epochs=3) | {key: trial.settings[key] for key in ("board", "attempt", "rule", "seed")}
        call = getattr(worker, trial.call.split(":")[1])
        outcomes[trial.name] = Outcome(
            trial=trial, folder=folder, status="completed", result=call(folder, settings_of_trial)
        )
    sections = STUDY.findings(settings, outcomes)
    assert len(sections) == 2 + 3
    attempts = next(part for part in sections[0].parts if getattr(part, "name", "") == "attempts")
    assert {row[:2] for row in attempts.rows} == {
        ("scratch", "ratchet"),
        ("fine-tuned", "ratchet"),
        ("scratch", "population"),
    }
    assert all(row[6] == 3 for row in attempts.rows)
    assert STUDY.findings(settings, {})[0].parts[0].rows == ()

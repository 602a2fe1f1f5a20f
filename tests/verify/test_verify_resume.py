"""`distdl verify-resume` with trainings, launchers and SIGKILL."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from distdl.core import checkpoints as stored
from distdl.core.manifest import MANIFEST, STATE, read_manifest, seal
from distdl.core.profiles import Recipe, resolve
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.verify.compare import checkpoints
from distdl.verify.proof import Proof
from distdl.verify.trial import kill_during_training


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `distdl verify-resume ARGUMENTS`."""
    return subprocess.run(
        [sys.executable, "-m", "distdl.cli", "verify-resume", *arguments], capture_output=True, text=True
    )


def prove_digits(folder: Path, overrides: Mapping[str, object] | None = None) -> Proof:
    recipe = Recipe(overrides=overrides or {})
    config = resolve(recipe, strategy="single")
    return Proof(config=config, recipe=recipe, folder=folder, ranks=1, kills=1, other_ranks=0, steps=40, seed=0)


def test_a_killed_training_is_exact_and_certified(tmp_path: Path) -> None:
    done = verify("--ranks", "1", "--kills", "1", "--other-ranks", "2", "--out", "verify", "--", "--optim.ema", "0.9")
    assert done.returncode == 0, done.stdout + done.stderr
    certificate = json.loads(Path("verify/verify-resume.json").read_text())
    assert certificate["exact"]
    same, other = certificate["kills"]
    assert (same["ranks"], same["resumed_on"], same["model"], same["optimizer"]) == (1, 1, 0, 0)
    assert (other["ranks"], other["resumed_on"], other["verdict"]) == (1, 2, "same samples")
    assert other["model"] < 1e-4
    assert all(0 < kill["killed_after"] < 60 for kill in (same, other))


def test_a_resume_that_loses_a_part_of_the_optimizer_is_not_exact(tmp_path: Path) -> None:
    proof = prove_digits(tmp_path)
    uncut, training = proof.training("uncut"), proof.training("killed")
    expected = uncut.finish(1)
    kill_during_training(training, 1, proof.steps, random.Random(1), one_rank=False)
    newest = stored.newest(training.run / "checkpoints", warn=pytest.fail)
    assert newest, "killed before its first checkpoint: choose another seed"
    state = read_tensors(newest / STATE)
    for slots in state["strategy"]["optimizer"]["state"].values():
        slots["exp_avg"].zero_()
    manifest = read_manifest(newest)
    (newest / MANIFEST).unlink()
    write_tensors(newest / STATE, state)
    seal(newest, manifest["progress"], manifest["metric"])
    differences = checkpoints(expected, training.finish(1))
    assert any(difference.name.startswith("model.") for difference in differences)
    assert any("exp_avg" in difference.name for difference in differences)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", "0"), "--ranks = 0: must be greater than 0"),
        (("--kills", "0"), "nothing to do: give --kills or --other-ranks, at least 1"),
        (("--steps", "1"), "--steps = 1: must be at least 2"),
        (("--", "--out", "elsewhere"), "--out cannot be given after --"),
        (("--", "--resume=auto"), "--resume cannot be given after --"),
        (("--profile", "digitz"), 'did you mean "digits"?'),
    ],
)
def test_invalid_arguments_are_a_one_line_error_and_write_nothing(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = verify(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_users_batch_size_is_replaced(tmp_path: Path) -> None:
    overrides = prove_digits(tmp_path, {"data.batch_size": 32, "epochs": 3}).training("uncut").recipe.overrides
    assert "data.batch_size" not in overrides
    assert overrides["data.global_batch"] == 32
    assert overrides["epochs"] == 3


def test_a_training_that_fails_without_a_kill_is_reported_with_its_last_line(tmp_path: Path) -> None:
    done = verify("--ranks", "1", "--kills", "1", "--out", "verify", "--", "--optim.lr", "1e30")
    assert done.returncode == 1
    assert "is not a finite number" in done.stderr
    assert done.stderr.count("\n") == 1


TORCH = ("--data.loader", "torch", "--data.workers", "1")
CASES = {
    "single, torch loader": ("--ranks", "1", "--", *TORCH),
    "ddp, torch loader": ("--ranks", "2", "--", *TORCH),
    "horovod": ("--ranks", "2", "--", "--strategy", "horovod"),
    "deepspeed": ("--ranks", "2", "--", "--strategy", "deepspeed"),
    "ps sync": ("--ranks", "2", "--", "--strategy", "ps", "--ps.servers", "1"),
}
JPEGS = (
    *("--data.name", "caltech101", "--data.limit", "120", "--data.image-size", "32", "--data.global-batch", "18"),
    *("--model.name", "resnet20", "--data.augment.random-resized-crop", "--data.augment.flip", "0.5"),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_20_of_20_kills_are_exact(case: str, tmp_path: Path) -> None:
    assert_exact(verify("--kills", "20", "--out", "verify", *CASES[case], "--data.augment.crop", "1"), 20)


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_20_of_20_kills_are_exact_with_jpegs(loader: str, data_root: Path, tmp_path: Path) -> None:
    argv = ("--data.root", str(data_root), "--data.loader", loader, *JPEGS)
    assert_exact(verify("--ranks", "2", "--kills", "20", "--steps", "24", "--out", "verify", "--", *argv), 20)


def assert_exact(done: subprocess.CompletedProcess[str], kills: int) -> None:
    """Assert that the certificate covers this number of kills."""
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(Path("verify/verify-resume.json").read_text())["kills"]
    assert len(rows) == kills
    assert all(row["verdict"] == "exact" for row in rows)


@pytest.mark.slow
def test_seven_ranks_resume_a_global_batch_of_18(tmp_path: Path) -> None:
    done = verify(
        "--ranks", "2", "--kills", "1", "--other-ranks", "7", "--out", "verify", "--", "--data.global-batch", "18"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(Path("verify/verify-resume.json").read_text())["kills"][1]["resumed_on"] == 7

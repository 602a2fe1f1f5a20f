"""A run that is killed and resumed ends with the same bits as an uninterrupted one."""

import random
from pathlib import Path

import pytest

import paused_training
from compare_checkpoints import assert_equal_checkpoints
from distdl.core.checkpoints import find
from distdl.runtime.tensors import load
from jobs import QUIET, Ranks, step_of, train, wait_for
from run_folders import tree

# All state that a resume could lose: momentum, schedule, EMA, dropout, augmentation, an incomplete last batch.
SAMPLES, BATCH, EPOCHS = 600, 24, 4
RECIPE = (
    *(
        "--epochs",
        str(EPOCHS),
        "--data.batch-size",
        str(BATCH),
        "--checkpoint.every-steps",
        "5",
        "--checkpoint.keep",
        "3",
    ),
    *("--optim.ema", "0.9", "--model.name", "mnist-cnn", "--data.augment.crop", "1", "--data.augment.rotation", "10"),
    *("--log-every-s", "0", "--data.limit", str(SAMPLES)),
)


def killed_and_resumed(argv: list[str], out: Path, *, ranks: int, kills: int, seed: int) -> None:
    """Train into `out`, killed by SIGKILL at `kills` random steps."""
    argv = [*argv, "--out", str(out), "--resume", "auto"]
    dice, steps = random.Random(seed), EPOCHS * -(-SAMPLES // (BATCH * ranks))
    for remaining in range(kills, 0, -1):
        goal = step_of(out) + dice.randint(1, max((steps - step_of(out)) // (remaining + 1), 1))
        job = Ranks([*argv, *QUIET], ranks=ranks)
        wait_for(
            lambda job=job, goal=goal: step_of(out) >= goal or not job.processes[0].is_alive(),
            timeout=120,
            what=f"step {goal}",
        )
        alive = job.processes[0].is_alive()
        job.kill()
        assert alive, f"it ended with {remaining} kills to come: codes {[p.exitcode for p in job.processes]}"
    train(argv, ranks=ranks)


# Bright images, whose gradients overflow at first: some steps are skipped, and the loss scale changes.
FP16 = (
    *("--compute.precision", "fp16", "--model.name", "digits-cnn", "--optim.lr", "1e-4"),
    *("--data.mean", "0", "--data.std", "0.002"),
)
CASES = {
    "resident, 1 rank": (1, ()),
    "resident, 2 ranks": (2, ()),
    "torch loader, 1 rank": (1, ("--data.loader", "torch", "--data.workers", "2")),
    "torch loader, 2 ranks": (2, ("--data.loader", "torch", "--data.workers", "1")),
    "fp16, 1 rank": (1, FP16),
    "fp16, 2 ranks": (2, FP16),
}


@pytest.mark.parametrize(
    ("ranks", "loader", "kills"),
    [pytest.param(*case, 2, id=name) for name, case in CASES.items() if "resident" in name]
    + [pytest.param(*case, 5, id=f"{name}, 5 kills", marks=pytest.mark.slow) for name, case in CASES.items()],
)
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, ranks: int, loader: tuple[str, ...], kills: int
) -> None:
    argv = [*RECIPE, *loader]
    train([*argv, "--out", str(tmp_path / "uncut")], ranks=ranks)
    killed_and_resumed(argv, tmp_path / "cut", ranks=ranks, kills=kills, seed=ranks * 100 + kills)
    assert_equal_checkpoints(tmp_path / "uncut", tmp_path / "cut")


@pytest.mark.parametrize("every_steps", ["0", "20"])  # 20: checkpoints must not delay the agreement to stop
def test_a_run_that_receives_a_signal_saves_and_prints_it(tmp_path: Path, every_steps: str) -> None:
    import json
    import os
    import signal

    argv = [*RECIPE, "--epochs", "10", "--checkpoint.every-steps", every_steps, "--checkpoint.every-epochs", "0"]
    train([*argv, "--out", str(tmp_path / "uncut")], ranks=2)
    cut = tmp_path / "cut"
    for number in (signal.SIGTERM, signal.SIGUSR2):
        goal = step_of(cut) + 2
        job = Ranks([*argv, "--out", str(cut), "--resume", "auto", *QUIET], ranks=2, main=paused_training.main)
        wait_for(lambda goal=goal: step_of(cut) >= goal, what=f"step {goal}")
        os.kill(job.processes[1].pid, number)  # one rank receives it; all of them stop
        paused_training.release(cut)
        assert job.wait() == [75, 75]
        assert json.loads((cut / "result.json").read_text())["status"] == "stopped"
    train([*argv, "--out", str(cut), "--resume", "auto"], ranks=2)
    assert_equal_checkpoints(tmp_path / "uncut", cut)
    assert json.loads((cut / "result.json").read_text())["resumes"] == 2


def test_max_time_stops_cleanly(tmp_path: Path) -> None:
    argv = [*RECIPE, "--epochs", "10000", "--max-time", "1.5", "--out", str(tmp_path / "run"), *QUIET]
    assert Ranks(argv).wait() == [75]
    assert find(tmp_path / "run", warn=pytest.fail)


def test_metrics_have_each_row_once_after_a_resume(tmp_path: Path) -> None:
    from distdl.core.files import read_rows

    killed_and_resumed(list(RECIPE), tmp_path / "cut", ranks=1, kills=1, seed=5)
    steps = [row["step"] for row in read_rows(tmp_path / "cut" / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == sorted(set(steps)) == list(range(1, steps[-1] + 1))


@pytest.mark.parametrize(("ranks", "ranks_of_resume"), [(1, 2), (2, 1), (2, 3)])
def test_on_another_world_size_every_sample_of_the_epoch_is_seen_once(
    tmp_path: Path, ranks: int, ranks_of_resume: int
) -> None:
    """The loaders' tests compare samples; this test compares the position of a training."""
    argv = [*RECIPE, "--epochs", "1", "--out", str(tmp_path / "run"), "--resume", "auto"]
    job = Ranks([*argv, *QUIET], ranks=ranks)
    wait_for(lambda: step_of(tmp_path / "run") >= 7 and any((tmp_path / "run" / "checkpoints").glob("step-*")))
    job.kill()
    _, cut = load(find(tmp_path / "run", warn=pytest.fail))
    assert 0 < cut.samples < 600
    train(argv, ranks=ranks_of_resume)
    _, progress = load(find(tmp_path / "run", warn=pytest.fail))
    assert (progress.epoch, progress.samples, progress.images) == (1, 0, 600)
    assert progress.step == cut.step + -(-(600 - cut.samples) // (24 * ranks_of_resume))


REFUSED = {
    "another seed": (["--seed", "3", "--resume", "auto"], "--seed 0"),
    "another network": (["--model.name", "softmax", "--resume", "auto"], "another network"),
    "an existing run": ([], "--resume auto"),
}


def test_invalid_resumes_are_refused(tmp_path: Path) -> None:
    run = ["--out", str(tmp_path / "run")]
    train([*RECIPE, "--epochs", "1", *run])
    for argv, message in REFUSED.values():
        job = Ranks([*RECIPE, *run, *argv, *QUIET])
        assert job.wait() == [2]
        assert message in job.text


def test_a_resume_by_path_starts_a_new_run(tmp_path: Path) -> None:
    argv = [*RECIPE, "--schedule.name", "constant"]  # a rate that does not depend on the number of epochs
    train([*argv, "--epochs", "1", "--out", str(tmp_path / "first")])
    train([*argv, "--epochs", "2", "--out", str(tmp_path / "second"), "--resume", str(tmp_path / "first")])
    train([*argv, "--epochs", "2", "--out", str(tmp_path / "whole")])
    _, progress = load(find(tmp_path / "second", warn=pytest.fail))
    assert progress.epoch == 2
    assert_equal_checkpoints(tmp_path / "whole", tmp_path / "second")


FROZEN = (
    "--data.limit",
    "96",
    "--data.batch-size",
    "32",
    "--model.name",
    "digits-cnn",
    "--checkpoint.every-epochs",
    "1",
)
OTHERS = {
    "layers of other shapes": (["features.2.*", "classifier.0.*"], ["features.0.*", "classifier.2.*"]),
    "fewer layers": (["features.0.*"], []),
    "more layers": ([], ["features.2.*"]),
}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(("frozen", "others"), OTHERS.values(), ids=OTHERS)
def test_moments_are_never_loaded_into_another_parameter(
    tmp_path: Path, frozen: list[str], others: list, optimizer: str
) -> None:
    """A resume with other trained parameters is refused; a resume with the same ones continues."""
    run = tmp_path / "run"
    settings = {"adamw": [], "sgd": ["--optim.momentum", "0.9", "--optim.lr", "0.01"]}[optimizer]
    argv = [*FROZEN, "--optim.name", optimizer, *settings, "--out", str(run), "--resume", "auto"]

    def freeze_options(patterns: list[str]) -> list[str]:
        return ["--model.freeze", *patterns] if patterns else []

    train([*argv, "--epochs", "1", *freeze_options(frozen)])
    previous = tree(run)
    job = Ranks([*argv, "--epochs", "2", *freeze_options(others), *QUIET])
    assert job.wait() == [2], job.text
    assert "use the same model.freeze, or start from its weights" in job.text
    assert tree(run) == previous
    train([*argv, "--epochs", "2", *freeze_options(frozen)])
    state, _ = load(find(run, warn=pytest.fail))
    shapes = [state["model"][name].shape for group in state["parameters"] for name in group]
    moment = {"adamw": "exp_avg", "sgd": "momentum_buffer"}[optimizer]
    optimizer_state = state["strategy"]["optimizer"]["state"]
    assert [optimizer_state[index][moment].shape for index in range(len(shapes))] == shapes


def test_a_data_set_that_changed_is_refused_or_stated(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    rng, images = np.random.default_rng(0), tmp_path / "set"
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        for number in range(30):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(images / name / f"{number}.png")
    argv = ["--data.name", str(images), "--data.image-size", "8", "--data.batch-size", "8", "--model.name", "softmax"]
    argv += ["--out", str(tmp_path / "run"), "--resume", "auto"]
    train([*argv, "--max-steps", "2"])
    previous = tree(tmp_path / "run")
    (images / "cat").rename(images / "zebra")
    job = Ranks([*argv, "--max-steps", "4", *QUIET])
    assert job.wait() == [2], job.text
    assert "other classes (2, now 2): class 0 was 'cat' and is 'dog'" in job.text
    assert tree(tmp_path / "run") == previous
    (images / "zebra").rename(images / "cat")
    for number in range(10):
        (images / "cat" / f"{number}.png").unlink()
    job = Ranks([*argv, "--max-steps", "4", *QUIET])
    assert job.wait() == [0], job.text
    assert "changed since the checkpoint: samples in train " in job.text

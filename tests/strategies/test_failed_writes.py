"""A checkpoint that one rank cannot write is a warning on all of them, and training continues."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import rank_mains
from compare_runs import result
from distdl.core.checkpoints import find
from distdl.core.files import read_rows
from jobs import QUIET, Ranks, step_of, wait_for

RECIPE = (
    *("--epochs", "100000", "--max-steps", "100000", "--data.batch-size", "8", "--evaluate-every", "100000"),
    *("--checkpoint.every-steps", "10", "--checkpoint.every-epochs", "0", "--log-every-s", "0"),
)
CASES = {
    "ddp powersgd": (("--ddp.compress", "powersgd"), 2),
    "deepspeed": (("--strategy", "deepspeed", "--deepspeed.stage", "1"), 2),
    "ps": (("--strategy", "ps", "--optim.name", "sgd", "--optim.weight-decay", "0"), 3),
}


def launch(name: str, out: Path) -> tuple[Ranks, int]:
    argv, ranks = CASES[name]
    if name == "deepspeed":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")
    return Ranks([*RECIPE, *argv, "--out", str(out), *QUIET], ranks=ranks), ranks


def warnings(run: Path) -> list[str]:
    messages = [row["message"] for row in read_rows(run / "metrics.jsonl") if row["kind"] == "warning"]
    return [message for message in messages if "checkpoint" in message]  # a busy machine gives another warning


def published(run: Path) -> Sequence[Path]:
    return sorted((run / "checkpoints").glob("step-*/manifest.json"))


def stopped(job: Ranks, ranks: int) -> None:
    """Stop the job cleanly, and assert that no rank fails."""
    job.processes[0].terminate()
    codes = job.wait(120)
    trains = [code for code in codes if code is not None]
    assert len(trains) == ranks and set(trains) <= {75, 0}, (codes, job.text)
    assert "Traceback" not in job.text


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "ddp powersgd" else [pytest.mark.slow]) for name in CASES]
)
def test_only_checkpoints_during_the_absence_of_the_folder_are_lost(tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    job, ranks = launch(name, out)
    alive = lambda: job.processes[0].is_alive()  # noqa: E731
    wait_for(lambda: published(out) or not alive(), 240, "a checkpoint")
    (out / "checkpoints").rename(out / "moved")
    (out / "checkpoints").write_text("a file instead of the folder")
    wait_for(lambda: warnings(out) or not alive(), 120, "a warning")
    assert alive(), job.text
    assert "was not written" in warnings(out)[0]
    failed_at = step_of(out)
    wait_for(lambda: step_of(out) > failed_at + 15 or not alive(), 120, "more steps")
    (out / "checkpoints").unlink()
    (out / "moved").rename(out / "checkpoints")
    count = step_of(out)
    wait_for(
        lambda: any(int(file.parent.name[5:]) > count for file in published(out)) or not alive(), 120, "a checkpoint"
    )
    assert alive(), job.text
    stopped(job, ranks)
    assert result(out)["status"] == "stopped"
    assert find(out, warn=pytest.fail)
    assert not list((out / "checkpoints").glob(".step-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp powersgd", "deepspeed"])
def test_a_shard_that_one_rank_cannot_write_names_the_rank(tmp_path: Path, name: str) -> None:
    """Files of rank 1 are limited to 20 kB; its shard is larger once the optimizer has a state."""
    out = tmp_path / "run"
    argv, ranks = CASES[name]
    argv = [*RECIPE, *argv, "--max-steps", "60", "--checkpoint.every-steps", "20", "--out", str(out), *QUIET]
    job = Ranks(argv, ranks=ranks, main=rank_mains.small_files)
    assert 1 in job.wait(300), job.text
    assert "Traceback" not in job.text
    assert "rank 1: File too large" in warnings(out)[0]
    assert result(out)["steps"] == 60, "training continues"
    assert "error: the checkpoint of step 60 was not written" in job.text
    assert not list((out / "checkpoints").glob(".step-*"))

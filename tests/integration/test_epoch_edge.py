"""The last samples of an epoch: a few samples are trained, and batches that BatchNorm cannot train are refused."""

import json
from pathlib import Path

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.errors import UserError
from distdl.models.freezing import check_smallest_piece
from distdl.runtime.tensors import load
from jobs import QUIET, Ranks, train

RESNET = (
    *("--model.name", "resnet18", "--data.image-size", "32", "--epochs", "1", "--optim.lr", "0.001"),
    *("--evaluate-every", "9", "--log-every-s", "0"),
)


@pytest.mark.parametrize("ranks", [1, 2])
def test_41_samples_in_batches_of_20_train_a_network_that_needs_two_per_rank(ranks: int, tmp_path: Path) -> None:
    train([*RESNET, "--data.limit", "41", "--data.global-batch", "20", "--out", str(tmp_path / "run")], ranks=ranks)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["steps"], result["images"]) == (3, 41)
    state, _ = load(find(tmp_path / "run", warn=pytest.fail))
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize(
    ("samples", "batch", "ranks", "message"),
    [
        (41, ("--data.batch-size", "2"), 1, "a rank would have 1 sample,"),
        (41, ("--data.batch-size", "1"), 2, "a rank would have no samples,"),
        (41, ("--data.batch-size", "4", "--optim.accumulate", "2"), 1, "a rank would have 1 sample,"),
    ],
)
def test_a_batch_that_is_too_small_for_every_division_is_refused_before_the_first_step(
    samples: int, batch: tuple[str, ...], ranks: int, message: str, tmp_path: Path
) -> None:
    argv = [*RESNET, "--data.limit", str(samples), *batch, "--out", str(tmp_path / "run"), *QUIET]
    job = Ranks(argv, ranks=ranks)
    assert job.wait() == [2] * ranks, job.text
    line = next(line for line in job.text.splitlines() if line.startswith("error: "))
    assert message in line and "--data.drop-last" in line
    assert "Traceback" not in job.text


def test_only_networks_that_would_fail_are_refused() -> None:
    shape = (1, 4, 4)
    pooled = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.BatchNorm2d(1))
    spatial = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    for network, refused in ((pooled, {0, 1}), (spatial, {0}), (plain, set())):
        for samples in range(3):
            if samples in refused:
                with pytest.raises(UserError, match="drop-last"):
                    check_smallest_piece(network, shape, samples)
            else:
                check_smallest_piece(network, shape, samples)
    for parameter in pooled.parameters():
        parameter.requires_grad_(False)
    check_smallest_piece(pooled, shape, 1)  # frozen BatchNorm computes no statistics


@pytest.mark.parametrize(("batch", "warns"), [("10", True), ("64", False)])
def test_a_warning_states_that_steps_depend_on_the_number_of_ranks(tmp_path: Path, batch: str, warns: bool) -> None:
    """101 samples: the last step of one rank has 5, of which 3 ranks would have less than two each."""
    argv = ["--data.limit", "101", "--data.global_batch", batch, "--epochs", "1", "--out", str(tmp_path / "run")]
    job = Ranks([*argv, *QUIET], ranks=3)
    assert job.wait() == [0, 0, 0], job.text
    assert ("the weights will differ from those of a run on one rank" in job.text) == warns

"""Trainings on several ranks equal those on one rank: gradients, evaluation and steps."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.config import Config, DataConfig, ModelConfig
from distdl.data.sets.load import load as data_set
from distdl.models import build as zoo
from distdl.runtime.tensors import load
from jobs import QUIET, Ranks, step_of, torchrun, train, wait_for

# A rate at which rounding stays rounding: where it grows, a last bit flips a ReLU or the place of a maximum
# within tens of steps, and plain torch's own sums over 64 or twice 32 part by 1e-3 (seen with the MNIST CNN at 0.05).
PLAIN = (
    *("--max-steps", "50", "--epochs", "10", "--optim.name", "sgd", "--optim.weight-decay", "0", "--optim.lr", "0.01"),
    *("--schedule.name", "constant", "--evaluate-every", "100"),
)
NETWORKS = {
    "digits CNN": (),
    "softmax layer on MNIST": ("--data.name", "mnist", "--model.name", "softmax", "--data.limit", "3200"),
}


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = load(find(run, warn=pytest.fail))
    return state["model"]


def max_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of the weights."""
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_two_ranks_with_batch_32_equal_one_with_batch_64(
    tmp_path: Path, data_root: Path, network: tuple[str, ...]
) -> None:
    argv = [*PLAIN, *network, "--data.root", str(data_root)]
    train([*argv, "--data.batch-size", "64", "--out", str(tmp_path / "one")])
    train([*argv, "--data.batch-size", "32", "--out", str(tmp_path / "two")], ranks=2)
    assert max_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-6


def test_accumulation_gives_the_same_step(tmp_path: Path) -> None:
    argv = ["--max-steps", "30", "--optim.name", "sgd", "--optim.weight-decay", "0", "--data.batch-size", "32"]
    train([*argv, "--out", str(tmp_path / "whole")])
    train([*argv, "--optim.accumulate", "4", "--out", str(tmp_path / "parts")])
    train([*argv, "--data.batch-size", "16", "--optim.accumulate", "4", "--out", str(tmp_path / "both")], ranks=2)
    assert max_difference(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < 1e-6
    assert max_difference(weights(tmp_path / "whole"), weights(tmp_path / "both")) < 1e-6


def test_samples_of_an_unevenly_divided_last_batch_have_equal_weights(tmp_path: Path) -> None:
    """97 samples with a global batch of 64: the second step has 33, divided into 17 and 16."""
    argv = ["--max-steps", "2", "--optim.name", "sgd", "--optim.weight-decay", "0", "--data.limit", "97"]
    train([*argv, "--data.batch-size", "64", "--out", str(tmp_path / "one")])
    train([*argv, "--data.batch-size", "32", "--out", str(tmp_path / "two")], ranks=2)
    assert max_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-6


def test_a_global_batch_is_the_same_training_on_1_2_and_3_ranks(tmp_path: Path) -> None:
    """133 samples in batches of 64: two epochs of 64, 35 and 34 samples, which three ranks divide with remainders."""
    argv = [*PLAIN, "--epochs", "2", "--data.global-batch", "64", "--data.limit", "133"]
    for ranks in (1, 2, 3):
        train([*argv, "--out", str(tmp_path / str(ranks))], ranks=ranks)
        result = json.loads((tmp_path / str(ranks) / "result.json").read_text())
        assert (result["steps"], result["images"], result["global_batch"]) == (6, 2 * 133, 64)
        assert max_difference(weights(tmp_path / "1"), weights(tmp_path / str(ranks))) < 1e-6


def test_evaluation_of_10000_images_is_exact_on_1_2_and_3_ranks(tmp_path: Path, data_root: Path) -> None:
    argv = ["--profile", "mnist-softmax", "--data.root", str(data_root), "--data.eval-batch-size", "512"]
    train([*argv, "--max-steps", "20", "--out", str(tmp_path / "made")])
    results = []
    for ranks in (1, 2, 3):
        out = tmp_path / f"ranks{ranks}"
        # With a learning rate of 0, the resumed run only evaluates.
        again = ["--max-steps", "21", "--optim.lr", "0", "--optim.momentum", "0", "--resume", str(tmp_path / "made")]
        train([*argv, *again, "--out", str(out)], ranks=ranks)
        results.append(json.loads((out / "result.json").read_text())["test"])
    correct_counts = {round(result["accuracy"] * 10_000, 6) for result in results}
    assert len(correct_counts) == 1
    assert correct_counts.pop().is_integer()
    losses = [result["loss"] for result in results]
    assert max(losses) - min(losses) < 1e-7


@pytest.fixture(scope="module")
def uncompressed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("uncompressed") / "run"
    train(["--epochs", "3", "--out", str(run)], ranks=2)
    return weights(run)


@pytest.mark.parametrize("hook", ["fp16", "bf16", "powersgd"])
def test_compressed_exchange_trains(tmp_path: Path, uncompressed: dict[str, torch.Tensor], hook: str) -> None:
    argv = ["--epochs", "3", "--ddp.compress", hook, "--out", str(tmp_path / hook)]
    train(argv, ranks=2)
    assert json.loads((tmp_path / hook / "result.json").read_text())["test"]["accuracy"] > 0.8
    assert max_difference(uncompressed, weights(tmp_path / hook)) > 1e-7


@pytest.mark.slow
def test_a_higher_rank_of_powersgd_is_nearer_to_the_full_gradient(tmp_path: Path) -> None:
    runs = {}
    for name, options in {
        "none": (),
        "1": ("--ddp.compress", "powersgd", "--ddp.powersgd-rank", "1"),
        "16": ("--ddp.compress", "powersgd", "--ddp.powersgd-rank", "16"),
    }.items():
        argv = [*PLAIN, "--data.batch-size", "32", "--max-steps", "14", *options, "--out", str(tmp_path / name)]
        train(argv, ranks=2)
        runs[name] = weights(tmp_path / name)
    distances = {
        name: sum(float((runs[name][k] - runs["none"][k]).square().sum()) for k in runs[name]) for name in runs
    }
    assert 0 < distances["16"] < distances["1"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_clip_norm_bounds_the_step(tmp_path: Path, ranks: int) -> None:
    """One step of SGD changes the weights by the learning rate times the clipped norm of the averaged gradient."""
    argv = ["--optim.name", "sgd", "--optim.lr", "1", "--optim.weight-decay", "0", "--schedule.name", "constant"]
    argv += ["--optim.momentum", "0", "--data.global-batch", "64", "--optim.clip-norm", "0.01"]
    still = ["--optim.lr", "0", "--max-steps", "1", "--out", str(tmp_path / "begin")]
    train([*argv, *still], ranks=ranks)
    train([*argv, "--max-steps", "1", "--out", str(tmp_path / "moved")], ranks=ranks)
    begin, moved = weights(tmp_path / "begin"), weights(tmp_path / "moved")
    distance = sum(float((moved[name] - begin[name]).double().square().sum()) for name in begin) ** 0.5
    assert distance == pytest.approx(0.01, rel=1e-3)


def test_every_rank_evaluates_with_the_statistics_that_are_saved(tmp_path: Path) -> None:
    """BatchNorm statistics differ by rank; the reported metrics must equal those computed from the checkpoint."""
    run = tmp_path / "run"
    argv = ["--model.name", "resnet20", "--data.global-batch", "48", "--max-steps", "4", "--schedule.name", "constant"]
    train([*argv, "--out", str(run)], ranks=2)
    config = Config(model=ModelConfig(name="resnet20"), data=DataConfig(global_batch=48))
    dataset = data_set(config.data)
    model = zoo.build(config.model, classes=10, channels=dataset.channels, image_size=dataset.image_size)
    model.load_state_dict(weights(run))
    model.eval()
    images = torch.from_numpy(dataset.test.images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (dataset.mean, dataset.std))
    with torch.no_grad():
        output = model((images - mean) / std)
    loss = torch.nn.functional.cross_entropy(output, torch.from_numpy(dataset.test.labels))
    reported = json.loads((run / "result.json").read_text())["test"]
    assert reported["loss"] == pytest.approx(float(loss), abs=1e-5)


@pytest.mark.slow
def test_a_rank_that_does_not_respond_ends_the_job_after_ddp_timeout_s(tmp_path: Path) -> None:
    argv = ["--epochs", "9999", "--ddp.timeout-s", "5", "--log-every-s", "0", "--out", str(tmp_path / "run"), *QUIET]
    job = Ranks(argv, ranks=2)
    wait_for(lambda: step_of(tmp_path / "run") >= 5, 120, "step 5")
    os.kill(job.processes[1].pid, signal.SIGSTOP)
    job.processes[0].join(120)  # its default would be ten minutes
    assert job.processes[0].exitcode not in (None, 0)
    job.kill()


def test_torchrun_trains_digits_with_two_processes(tmp_path: Path) -> None:
    done = torchrun(["--profile", "digits", "--out", str(tmp_path / "run")])
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "completed"
    assert (result["world_size"], result["strategy"]) == (2, "ddp")
    assert result["test"]["accuracy"] > 0.9
    assert set(result["phases_s"]) == {"data", "transfer", "forward", "backward", "exchange", "update"}
    assert result["phases_s"]["exchange"] > 0
    assert sum(result["phases_s"].values()) <= result["train_s"]
    assert "test accuracy" in done.stdout
    assert str(tmp_path / "run") in done.stdout.replace("\n", "")


def test_two_nodes_of_one_process_each_form_a_job(tmp_path: Path) -> None:
    import subprocess
    import sys

    from jobs import QUIET, free_port

    port = free_port()
    nodes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node_rank={rank}"),
                *("--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={port}"),
                *("-m", "distdl.train", "--epochs", "2", "--out", str(tmp_path / "run"), *QUIET),
            ]
        )
        for rank in range(2)
    ]
    assert [node.wait(timeout=120) for node in nodes] == [0, 0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["world_size"] == 2


LOADERS = {
    "torch, no worker": ("--data.loader", "torch", "--data.workers", "0"),
    "torch, two workers": ("--data.loader", "torch", "--data.workers", "2"),
    "a third loader": ("--data.loader", "torch", "--data.workers", "1", "--data.validation", "0.2"),
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_the_initial_weights_depend_only_on_the_seed(tmp_path: Path, loader: tuple[str, ...]) -> None:
    """At this learning rate the checkpoint has almost the initial weights. Loaders use random numbers too."""
    argv = ["--max-steps", "1", "--optim.name", "sgd", "--optim.weight-decay", "0", "--optim.lr", "1e-30"]
    train([*argv, "--data.loader", "resident", "--out", str(tmp_path / "one")])
    train([*argv, *loader, "--out", str(tmp_path / "other")])
    assert max_difference(weights(tmp_path / "one"), weights(tmp_path / "other")) < 1e-20

"""Horovod: equality with ddp, exact evaluation and resume, and its options."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")

from compare_checkpoints import assert_equal_checkpoints
from compare_runs import SGD, max_difference, result
from debian import needs
from distdl.core.config import ComputeConfig, Config, HorovodConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.strategies.horovod import AUTOTUNE_LOG, TIMELINE, Horovod, variables
from distdl.telemetry.clock import Clock
from horovod_ranks import HorovodRanks, horovod_train
from jobs import QUIET, step_of, train, wait_for


def test_variables_contain_only_differences_from_horovods_defaults(tmp_path: Path) -> None:
    assert variables(HorovodConfig(), tmp_path) == {}
    environ = variables(
        HorovodConfig(fusion_mb=1.5, cycle_ms=2.5, hierarchical=True, autotune=True, timeline=True), tmp_path / "log"
    )
    assert environ == {
        "HOROVOD_FUSION_THRESHOLD": "1572864",
        "HOROVOD_CYCLE_TIME": "2.5",
        "HOROVOD_HIERARCHICAL_ALLREDUCE": "1",
        "HOROVOD_AUTOTUNE": "1",
        "HOROVOD_AUTOTUNE_LOG": str(tmp_path / "log"),
        "HOROVOD_TIMELINE": "DYNAMIC",
    }


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[HorovodConfig], Horovod]]:
    """Makes a strategy of one rank in this process, over gloo, that trains a vector of two zeros by SGD."""
    threads, made, environ = torch.get_num_threads(), [], dict(os.environ)
    for name in ("HOROVOD_CONTROLLER", "HOROVOD_CPU_OPERATIONS"):
        monkeypatch.setenv(name, "gloo")

    def make(config: HorovodConfig) -> Horovod:
        compute = ComputeConfig(device="cpu", threads=1)
        strategy = Horovod(Config(strategy="horovod", horovod=config, compute=compute))
        made.append(strategy)
        strategy.setup()
        model = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        with monkeypatch.context() as patch:
            patch.setenv("HOROVOD_ELASTIC", "1")  # otherwise Horovod exchanges nothing if there is one rank
            strategy.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0), Clock())
        return strategy

    yield make
    for strategy in made:
        strategy.close()
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environ)


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (HorovodConfig(), [[-1 / 3, -1.0], [-2 / 3, -4.0]]),
        (HorovodConfig(compress="fp16"), [[-0.333251953125, -1.0], [-0.66650390625, -4.0]]),
        (HorovodConfig(backward_passes_per_step=2), [[0.0, 0.0], [-1 / 3, -2.0]]),
    ],
    ids=["default", "fp16", "every second step"],
)
def test_weights_of_two_steps(alone: Callable, config: HorovodConfig, weights: list[list[float]]) -> None:
    """1/3 as float16 is 0.333251953125. Two passes per step update the weights once, by the mean of both gradients."""
    strategy = alone(config)
    for gradient, expected in zip(((1 / 3, 1.0), (1 / 3, 3.0)), weights, strict=True):
        with strategy.micro_batch(last=True):
            strategy.backward((strategy.model.weight * torch.tensor(gradient)).sum())
        strategy.step()
        torch.testing.assert_close(strategy.model.weight, torch.tensor([expected]), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("changes", "held"), [({}, 2), ({"held_by": 2}, 0), ({"held": 3}, 0), ({"held": 0}, 0)])
def test_steps_whose_gradients_are_not_exchanged_are_counted_after_a_resume(
    alone: Callable, changes: dict[str, int], held: int
) -> None:
    """They are dropped if they were accumulated on another number of ranks, or by another number of passes."""
    first, second = (alone(HorovodConfig(backward_passes_per_step=3)) for _ in range(2))
    for _ in range(2):
        with first.micro_batch(last=True):
            first.backward(first.model.weight.sum())
        first.step()
    state = first.state_dict()
    assert (state["held"], state["held_by"]) == (2, 1)
    second.load_state_dict(state | changes)
    assert second.state_dict()["held"] == held


def test_horovod_receives_the_settings(alone: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import horovod.torch as hvd

    assert alone(HorovodConfig())._exchange.op == hvd.Average
    monkeypatch.setattr(Horovod, "_refuse", lambda self: None)  # gloo has no Adasum
    assert alone(HorovodConfig(adasum=True, fusion_mb=1.5))._exchange.op == hvd.Adasum
    assert os.environ["HOROVOD_FUSION_THRESHOLD"] == "1572864"


def test_a_slow_exchange_is_measured_as_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange takes 5 s of a simulated clock, the optimizer 3 s. Horovod itself does not run."""
    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    strategy = Horovod(Config())
    strategy.clock, strategy.model = Clock(), torch.nn.Linear(1, 1)
    strategy.optimizer = SimpleNamespace(step=lambda: wait(3), zero_grad=lambda set_to_none: None)
    strategy._exchange = SimpleNamespace(synchronize=lambda: wait(5))
    strategy._every, strategy._accumulated_steps = 1, 0
    with strategy.clock("update"):
        strategy.step()
    assert {phase: seconds for phase, seconds in strategy.clock.read().items() if seconds} == {
        "exchange": 5,
        "update": 3,
    }


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 steps of SGD on 2 ranks under ddp."""
    run = tmp_path_factory.mktemp("ddp") / "run"
    train([*SGD, "--out", str(run)], ranks=2)
    return run


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="default"),
        pytest.param(("--optim.accumulate", "4"), id="accumulated"),
        pytest.param(("--horovod.fusion-mb", "0", "--horovod.cycle-ms", "0.5"), id="unfused"),
    ],
)
def test_weights_equal_those_of_ddp(tmp_path: Path, ddp: Path, options: tuple[str, ...]) -> None:
    horovod_train([*SGD, *options, "--out", str(tmp_path / "run")])
    assert max_difference(ddp, tmp_path / "run") < 1e-5
    assert result(tmp_path / "run")["strategy"] == "horovod"
    assert result(tmp_path / "run")["test"] == pytest.approx(result(ddp)["test"], abs=1e-5)


@pytest.mark.slow
def test_clipping_applies_to_the_averaged_gradient(tmp_path: Path) -> None:
    argv = [*SGD, "--optim.clip-norm", "0.5"]
    train([*argv, "--out", str(tmp_path / "ddp")], ranks=2)
    horovod_train([*argv, "--out", str(tmp_path / "horovod")])
    assert max_difference(tmp_path / "ddp", tmp_path / "horovod") < 1e-5


@pytest.mark.slow
def test_fp16_compression_trains_to_nearly_the_same_weights(tmp_path: Path, ddp: Path) -> None:
    horovod_train([*SGD, "--horovod.compress", "fp16", "--out", str(tmp_path / "run")])
    assert 1e-6 < max_difference(ddp, tmp_path / "run") < 0.05


@pytest.mark.slow
def test_two_backward_passes_per_step_equal_twice_the_batch(tmp_path: Path, ddp: Path) -> None:
    half = ["--data.batch-size", "16", "--max-steps", "100", "--horovod.backward-passes-per-step", "2"]
    horovod_train([*SGD, "--data.drop-last", *half, "--out", str(tmp_path / "backward_passes")])
    # Also in batches of 16: a kernel for 32 rounds differently, which changes the result of a max pooling in step 4.
    train([*SGD, "--data.drop-last", "--optim.accumulate", "2", "--out", str(tmp_path / "ddp")], ranks=2)
    assert max_difference(tmp_path / "ddp", tmp_path / "backward_passes") < 1e-5


@pytest.mark.parametrize("backward_passes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path, backward_passes: int) -> None:
    argv = [
        *("--epochs", "6", "--data.limit", "600", "--data.batch-size", "12", "--checkpoint.every-steps", "5"),
        *("--log-every-s", "0", "--optim.ema", "0.9", "--horovod.backward-passes-per-step", str(backward_passes)),
    ]
    horovod_train([*argv, "--out", str(tmp_path / "uncut")])
    out, dice = tmp_path / "cut", random.Random(backward_passes)
    argv = [*argv, "--out", str(out), "--resume", "auto"]
    for _ in range(2):
        goal = step_of(out) + dice.randint(10, 40)
        job = HorovodRanks([*argv, *QUIET])
        wait_for(
            lambda job=job, goal=goal: step_of(out) >= goal or not job.processes[0].is_alive(), 120, f"step {goal}"
        )
        assert job.processes[0].is_alive()
        job.kill()
    horovod_train(argv)
    assert result(out)["resumes"] >= 1
    assert_equal_checkpoints(tmp_path / "uncut", out)


@pytest.mark.slow
def test_a_checkpoint_of_ddp_is_resumed_under_horovod(tmp_path: Path) -> None:
    train([*SGD, "--max-steps", "20", "--out", str(tmp_path / "begun")], ranks=2)
    train([*SGD, "--resume", str(tmp_path / "begun"), "--out", str(tmp_path / "ddp")], ranks=2)
    horovod_train([*SGD, "--resume", str(tmp_path / "begun"), "--out", str(tmp_path / "horovod")])
    assert max_difference(tmp_path / "ddp", tmp_path / "horovod") < 1e-5


def test_evaluation_is_exact_on_1_2_and_3_ranks(tmp_path: Path) -> None:
    train([*SGD, "--out", str(tmp_path / "made")])
    evaluations = []
    for ranks in (1, 2, 3):
        out = tmp_path / str(ranks)
        again = ["--max-steps", "51", "--optim.lr", "0", "--optim.momentum", "0", "--resume", str(tmp_path / "made")]
        horovod_train([*SGD, *again, "--data.eval-batch-size", "7", "--out", str(out)], ranks=ranks)
        evaluations.append(result(out)["test"])
    assert len({test["accuracy"] for test in evaluations}) == 1
    assert max(test["loss"] for test in evaluations) - min(test["loss"] for test in evaluations) < 1e-7


def test_autotune_log_and_timeline_are_in_the_run_folder(tmp_path: Path) -> None:
    argv = ["--epochs", "100", "--max-steps", "120", "--horovod.autotune", "--horovod.timeline"]
    env = {"HOROVOD_AUTOTUNE_STEPS_PER_SAMPLE": "5", "HOROVOD_AUTOTUNE_WARMUP_SAMPLES": "1"}
    horovod_train([*argv, "--out", str(tmp_path / "run")], **env)
    with (tmp_path / "run" / AUTOTUNE_LOG).open() as log:
        rows = list(csv.reader(log))
    assert "cycle_time_ms" in rows[0]
    assert len(rows) > 3
    text = (tmp_path / "run" / TIMELINE).read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") else text + "]")
    assert any("ALLREDUCE" in str(event.get("name")) for event in events)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (HorovodConfig(adasum=True), "adasum needs MPI"),
        (HorovodConfig(hierarchical=True), "hierarchical needs MPI or NCCL"),
    ],
)
def test_options_that_gloo_does_not_support_are_refused(
    config: HorovodConfig, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CONTROLLER": "gloo", "CPU_OPERATIONS": "gloo", "HIERARCHICAL_ALLREDUCE": "1"}.items():
        monkeypatch.setenv(f"HOROVOD_{name}", value)
    strategy = Horovod(Config(strategy="horovod", horovod=config))
    try:
        with pytest.raises(UserError, match=message):
            strategy.setup()
    finally:
        strategy.close()


@pytest.mark.parametrize(
    "fields", [{"optim": OptimConfig(clip_norm=1.0)}, {"compute": ComputeConfig(precision="fp16")}]
)
def test_adasum_refuses_clipping_and_fp16(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import horovod.torch as hvd

    for name, value in {"mpi_enabled": True, "size": 2}.items():
        monkeypatch.setattr(hvd, name, lambda value=value: value)
    strategy = Horovod(Config(strategy="horovod", horovod=HorovodConfig(adasum=True), **fields))
    strategy._hvd = hvd
    with pytest.raises(UserError, match=r"cannot be used with optim.clip_norm or fp16$"):
        strategy._refuse()


def test_horovodrun_selects_the_strategy_horovod(tmp_path: Path) -> None:
    horovodrun = Path(sys.executable).with_name("horovodrun")
    argv = [sys.executable, "-m", "distdl.train", *QUIET, "--epochs", "10", "--out", str(tmp_path / "run")]
    subprocess.run([horovodrun, "-np", "2", "--gloo", *argv], check=True, timeout=240, capture_output=True)
    ended = result(tmp_path / "run")
    assert (ended["status"], ended["strategy"], ended["world_size"]) == ("completed", "horovod", 2)
    assert ended["test"]["accuracy"] > 0.9
    assert ended["phases_s"]["exchange"] > 0


def _mpi() -> str:
    import horovod.torch as hvd

    mpirun = needs("openmpi-bin", program="mpirun")
    if not hvd.mpi_built():
        pytest.skip(
            "needs Horovod built with Open MPI: apt-get install libopenmpi-dev, then containers/horovod/build.sh"
        )
    return mpirun


def _mpirun(argv: list[str], ranks: int = 2) -> subprocess.CompletedProcess[str]:
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    module = [sys.executable, "-m", "distdl.train", "--strategy", "horovod", *QUIET]
    return subprocess.run([_mpi(), *options, *module, *argv], timeout=240, capture_output=True, text=True)


def test_adasum_trains_under_mpi_and_differs_from_the_average(tmp_path: Path, ddp: Path) -> None:
    done = _mpirun([*SGD, "--horovod.adasum", "--horovod.hierarchical", "--out", str(tmp_path / "run")])
    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run")["world_size"] == 2
    assert result(tmp_path / "run")["test"]["accuracy"] > 0.85
    assert max_difference(ddp, tmp_path / "run") > 1e-3


@pytest.mark.slow
def test_adasum_refuses_clipping(tmp_path: Path) -> None:
    done = _mpirun([*SGD, "--horovod.adasum", "--optim.clip-norm", "1", "--out", str(tmp_path / "run")])
    assert done.returncode == 2
    assert "optim.clip_norm" in done.stderr

"""The loss scale of fp16: skipped steps change no state and are counted; a collapsed scale ends the run."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import rank_mains
from compare_runs import result
from distdl.core.config import ComputeConfig, Config, OptimConfig
from distdl.core.errors import Failure
from distdl.core.files import read_rows
from distdl.optim import optimizers
from distdl.strategies.base import Strategy
from distdl.strategies.loss_scale import WARN_AFTER
from distdl.strategies.single import Single
from distdl.telemetry.clock import Clock
from distdl.training.consensus import Consensus
from distdl.training.nonfinite import NonFiniteGuard
from distdl.training.stop import StopSignal
from jobs import QUIET, Ranks, torchrun_places, train

INF = float("inf")


def prepared(name: str = "sgd", *, clip_norm: float = 0.0, momentum: float = 0.9) -> Strategy:
    """A single-rank strategy with a linear network under fp16."""
    optim = OptimConfig(name=name, lr=0.1, momentum=momentum if name == "sgd" else 0.0, clip_norm=clip_norm)
    strategy = Single(Config(optim=optim, compute=ComputeConfig(precision="fp16")))
    model = nn.Linear(40, 40, bias=False)
    nn.init.ones_(model.weight)
    strategy.prepare(model, optimizers.build(optim, model, global_batch=1), Clock())
    return strategy


def step(strategy: Strategy, gradient: float) -> bool:
    """Train a step with this gradient for every weight. Returns whether the weights were updated."""
    with strategy.micro_batch(last=True):
        strategy.backward((strategy.model.weight * gradient).sum())
    return bool(strategy.step())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
@pytest.mark.parametrize("clip_norm", [0.0, 1e6])
def test_a_skipped_step_changes_only_the_scale(name: str, clip_norm: float) -> None:
    with_skips, without = prepared(name, clip_norm=clip_norm), prepared(name, clip_norm=clip_norm)
    # Fills freed memory with NaN, so that uninitialized memory of the optimizer is detected.
    for number, gradient in enumerate([INF, 1.0, INF, float("nan"), 2.0, 3.0]):
        filler = [torch.full((40, 40), float("nan")) for _ in range(200)]
        del filler
        updated = step(with_skips, gradient)
        assert updated == (gradient in (1.0, 2.0, 3.0)), number
    # Equal scales, so that unscaling rounds equally.
    without.loss_scale.load_state_dict(with_skips.loss_scale.state_dict())
    for gradient in (1.0, 2.0, 3.0):
        assert step(without, gradient)
    assert torch.equal(with_skips.model.weight, without.model.weight)
    first, second = (s.optimizer.state[s.model.weight] for s in (with_skips, without))
    assert first.keys() == second.keys()
    assert all(torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first)
    assert with_skips.report() == {"skipped_steps": 3, "loss_scale": 65536 / 8}


def test_consecutive_skipped_steps_give_one_warning() -> None:
    strategy = prepared()
    for _ in range(WARN_AFTER - 1):
        step(strategy, INF)
    assert strategy.loss_scale.warning() is None
    step(strategy, INF)
    step(strategy, 1.0)
    assert f"{WARN_AFTER} consecutive steps were skipped" in (strategy.loss_scale.warning() or "")
    assert strategy.loss_scale.warning() is None


def test_counters_and_scale_are_restored_from_a_checkpoint() -> None:
    strategy, resumed = prepared(), prepared()
    for gradient in (INF, 1.0, INF):
        step(strategy, gradient)
    resumed.load_state_dict(strategy.state_dict())
    assert resumed.report() == strategy.report() == {"skipped_steps": 2, "loss_scale": 65536 / 4}
    assert resumed.state_dict()["scaler"] == strategy.state_dict()["scaler"]


def test_a_checkpoint_of_another_precision_is_accepted() -> None:
    fp32 = Single(Config())
    model = nn.Linear(2, 2)
    fp32.prepare(model, optimizers.build(Config().optim, model, global_batch=1), Clock())
    fp16 = Single(Config(compute=ComputeConfig(precision="fp16")))
    fp16.prepare(model, optimizers.build(Config().optim, model, global_batch=1), Clock())
    fp16.load_state_dict(fp32.state_dict())
    fp32.load_state_dict(fp16.state_dict())
    assert fp16.report() == {"skipped_steps": 0, "loss_scale": 65536}
    assert fp32.report() == {}


def test_a_collapsed_scale_ends_the_run_at_the_next_agreement_and_before_a_checkpoint() -> None:
    strategy = prepared()
    stop = StopSignal()
    consensus = Consensus(strategy, stop, NonFiniteGuard(strategy.world.device))
    try:
        for number in range(16):
            step(strategy, INF)
            consensus.check_health()
            assert strategy.loss_scale.value() == 65536 / 2 ** (number + 1)
        assert not consensus.should_stop(16)
        assert "16 consecutive steps" in strategy.warnings[0]
        step(strategy, INF)
        for check in (consensus.check_health, lambda: consensus.should_stop(17)):
            with pytest.raises(
                Failure, match=r"the loss scale has fallen to 0\.5, and the weights are no longer updated"
            ):
                check()
    finally:
        stop.close()


# Bright images: the gradients of the first layer overflow until the scale has been halved a few times.
BRIGHT = ("--data.mean", "0", "--data.std", "0.002", "--optim.lr", "1e-4", "--compute.precision", "fp16")


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_skipped_steps_are_reported_and_excluded_from_the_average(tmp_path: Path, ranks: int) -> None:
    out = tmp_path / "run"
    argv = ["--max-steps", "14", "--data.global-batch", "16", *BRIGHT, "--optim.ema", "0.9", "--log-every-s", "0"]
    train([*argv, "--out", str(out)], ranks=ranks)
    summary = result(out)
    assert 0 < summary["skipped_steps"] < summary["steps"]
    assert summary["loss_scale"] == 65536 / 2 ** summary["skipped_steps"]
    rows = [row for row in read_rows(out / "metrics.jsonl") if row["kind"] == "train"]
    assert rows[-1]["skipped_steps"] == summary["skipped_steps"]
    from distdl.core.checkpoints import find
    from distdl.runtime.tensors import load

    state, progress = load(find(out, warn=pytest.fail))
    assert progress.step == summary["steps"]
    assert state["ema"]["updates"] == summary["steps"] - summary["skipped_steps"]
    optimizer = state["strategy"]["optimizer"]["state"]
    assert {int(slot["step"]) for slot in optimizer.values()} == {state["ema"]["updates"]}


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param((), id="ddp"),
        pytest.param(("--strategy", "deepspeed", "--deepspeed.stage", "0"), id="deepspeed 0", marks=pytest.mark.slow),
        pytest.param(("--strategy", "deepspeed", "--deepspeed.stage", "1"), id="deepspeed 1", marks=pytest.mark.slow),
        pytest.param(("--strategy", "deepspeed", "--deepspeed.stage", "2"), id="deepspeed 2", marks=pytest.mark.slow),
        pytest.param(("--strategy", "deepspeed", "--deepspeed.stage", "3"), id="deepspeed 3", marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_gradients_always_overflow_fails_on_every_rank(tmp_path: Path, argv: tuple[str, ...]) -> None:
    if argv:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")
    argv = ["--epochs", "3", "--model.name", "softmax", "--compute.precision", "fp16", *argv]
    argv += ["--out", str(tmp_path / "run"), *QUIET]
    job = Ranks(argv, places=torchrun_places(2), main=rank_mains.exploding)
    assert job.wait(300) == [1, 1], job.text
    assert "the loss scale has fallen to 0" in job.text
    assert "Traceback" not in job.text
    assert result(tmp_path / "run")["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("clip", ["0", "1"])
def test_deepspeed_scales_the_loss_like_ddp(tmp_path: Path, stage: int, clip: str) -> None:
    """Skipped steps, scale and clipped weights equal those of ddp at every stage."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")
    from compare_runs import max_difference

    argv = [
        "--max-steps",
        "20",
        "--data.global-batch",
        "32",
        *BRIGHT,
        "--optim.name",
        "sgd",
        "--optim.clip-norm",
        clip,
    ]
    argv += ["--optim.weight-decay", "0", "--optim.lr", "1e-6"]
    train([*argv, "--out", str(tmp_path / "ddp")], ranks=2)
    deepspeed = ["--strategy", "deepspeed", "--deepspeed.stage", str(stage), "--out", str(tmp_path / "run")]
    train([*argv, *deepspeed], ranks=2, timeout=300)
    first, second = result(tmp_path / "ddp"), result(tmp_path / "run")
    assert first["skipped_steps"] == second["skipped_steps"] > 0
    assert first["loss_scale"] == second["loss_scale"]
    assert max_difference(tmp_path / "ddp", tmp_path / "run") < 1e-4


def test_rows_are_json(tmp_path: Path) -> None:
    strategy = prepared()
    step(strategy, INF)
    assert json.loads(json.dumps(strategy.report())) == {"skipped_steps": 1, "loss_scale": 32768.0}

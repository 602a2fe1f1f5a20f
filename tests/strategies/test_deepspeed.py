"""DeepSpeed: the same training as ddp's at every stage, exact evaluation and resume, its configuration from ours."""

import json
import random
from pathlib import Path

import pytest
import torch

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")

from same import SGD, apart, result, weights

from distdl.config import ComputeConfig, Config, DataConfig, DeepSpeedConfig, OptimConfig
from distdl.errors import UserError
from distdl.strategies.deepspeed import DeepSpeed, _Files, settings
from distdl.world import World
from jobs import QUIET, Ranks, step_of, train, wait_for

WORLD = World(rank=0, size=2)
DEEPSPEED = ("--strategy", "deepspeed")


def configured(file: Path | None = None, *, offload: bool = False, precision: str = "fp32") -> Config:
    return Config(
        strategy="deepspeed",
        data=DataConfig(batch_size=32),
        optim=OptimConfig(accumulate=2, clip_norm=1.5),
        compute=ComputeConfig(precision=precision),
        deepspeed=DeepSpeedConfig(stage=2, offload=offload, config=file),
    )


def test_settings_are_made_from_the_configuration() -> None:
    made = settings(configured(offload=True, precision="bf16"), WORLD)
    assert (made["train_batch_size"], made["train_micro_batch_size_per_gpu"]) == (64, 16)
    assert (made["gradient_accumulation_steps"], made["gradient_clipping"]) == (2, 1.5)
    assert made["zero_optimization"] == {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": False}}
    assert made["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    assert "torch_autocast" not in settings(configured(), WORLD)


def test_a_file_adds_to_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    theirs = {
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1000},
        "train_batch_size": "auto",
        "bf16": {"enabled": False},
        "wall_clock_breakdown": True,
    }
    file.write_text(json.dumps(theirs))
    made = settings(configured(file), WORLD)
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 1000}
    assert made["train_batch_size"] == 64
    assert made["wall_clock_breakdown"] is True
    assert "bf16" not in made


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"zero_optimization": {"stage": 3}}', r"zero_optimization.stage = 3, .* comes to 2"),
        ('{"train_batch_size": 128}', r"train_batch_size = 128, .* comes to 64"),
        ('{"optimizer": {"type": "Adam"}}', r"sets optimizer, .* use optim"),
        ('{"bf16": {"enabled": true}}', r"sets bf16, .* use compute.precision"),
        ("{", "cannot be read as JSON"),
        ("[]", "one JSON object"),
    ],
)
def test_a_file_that_contradicts_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "ds.json"
    file.write_text(text)
    with pytest.raises(UserError, match=complaint):
        settings(configured(file), WORLD)


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 steps of SGD on 2 ranks under ddp."""
    run = tmp_path_factory.mktemp("ddp") / "run"
    train([*SGD, "--out", str(run)], ranks=2)
    return run


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_same_weights_as_ddp(tmp_path: Path, ddp: Path, stage: int) -> None:
    words = [*SGD, *DEEPSPEED, "--deepspeed.stage", str(stage)]
    train([*words, "--out", str(tmp_path / "run")], ranks=2, timeout=240)
    assert apart(ddp, tmp_path / "run") < 1e-5
    told = result(tmp_path / "run")
    assert told["strategy"] == "deepspeed"
    assert told["test"] == pytest.approx(result(ddp)["test"], abs=1e-5)
    assert told["phases_s"]["exchange"] > 0


RESUMED = ("--epochs", "6", "--data.limit", "600", "--data.batch-size", "12", "--checkpoint.every-steps", "10")


@pytest.mark.parametrize(
    "options", [pytest.param(("--deepspeed.stage", "1", "--optim.ema", "0.9"), id="stage 1 with EMA")]
)
def test_a_killed_run_ends_with_the_bits_of_an_uncut_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    words = [*RESUMED, *DEEPSPEED, *options, "--log-every-s", "0"]
    train([*words, "--out", str(tmp_path / "uncut")], ranks=2, timeout=240)
    out = tmp_path / "cut"
    words = [*words, "--out", str(out), "--resume", "auto"]
    goal = random.Random(str(options)).randint(30, 90)
    job = Ranks([*words, *QUIET], ranks=2)
    wait_for(lambda: step_of(out) >= goal or not job.processes[0].is_alive(), 120, f"step {goal}")
    assert job.processes[0].is_alive()
    job.kill()
    train(words, ranks=2, timeout=240)
    assert result(out)["resumes"] == 1
    one, other = weights(tmp_path / "uncut"), weights(out)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (Config(deepspeed=DeepSpeedConfig(offload=True, stage=0)), "deepspeed.offload .* needs deepspeed.stage 1"),
        (Config(deepspeed=DeepSpeedConfig(stage=3), optim=OptimConfig(ema=0.9)), "optim.ema needs whole weights"),
        (
            Config(deepspeed=DeepSpeedConfig(stage=1), optim=OptimConfig(name="lamb")),
            "lamb needs the norm of each layer",
        ),
    ],
)
def test_what_zero_would_get_wrong_is_refused(config: Config, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        DeepSpeed(config).setup()


class Runs:
    """Unpickled, it would print."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_shards_are_read_without_running_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shard.pt"
    torch.save({"state": Runs()}, file)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        _Files(None).load(str(file))
    assert "code ran" not in capsys.readouterr().out

"""DeepSpeed's configuration, derived from distdl's and a user's file. The tests do not need DeepSpeed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distdl.core.config import ComputeConfig, Config, DataConfig, DeepSpeedConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.runtime.world import World
from distdl.strategies.deepspeed_config import settings

WORLD = World(rank=0, size=2)


def configured(file: Path | None = None, *, offload: bool = False, precision: str = "fp32", stage: int = 2) -> Config:
    return Config(
        strategy="deepspeed",
        data=DataConfig(batch_size=32),
        optim=OptimConfig(accumulate=2, clip_norm=1.5),
        compute=ComputeConfig(precision=precision),
        deepspeed=DeepSpeedConfig(stage=stage, offload=offload, config=file),
    )


def test_settings_are_derived_from_the_configuration() -> None:
    made = settings(configured(offload=True, precision="bf16"), WORLD)
    assert (made["train_batch_size"], made["train_micro_batch_size_per_gpu"]) == (64, 16)
    assert (made["gradient_accumulation_steps"], made["gradient_clipping"]) == (2, 1.5)
    assert made["zero_optimization"] == {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": False}}
    on_gpu = settings(configured(offload=True), replace(WORLD, device=torch.device("cuda", 0)))
    assert on_gpu["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert made["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    assert "torch_autocast" not in settings(configured(), WORLD)


@pytest.mark.parametrize(("stage", "casts"), [(0, True), (1, False), (3, False)])
def test_deepspeed_scales_fp16_only_at_stage_0(stage: int, casts: bool) -> None:
    made = settings(configured(precision="fp16", stage=stage), WORLD)
    assert made.get("torch_autocast") == ({"enabled": True, "dtype": "float16"} if casts else None)


def test_a_file_adds_to_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    table = {
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1000},
        "train_batch_size": "auto",
        "bf16": {"enabled": False},
        "wall_clock_breakdown": True,
    }
    file.write_text(json.dumps(table))
    made = settings(configured(file), WORLD)
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 1000}
    assert made["train_batch_size"] == 64
    assert made["wall_clock_breakdown"] is True
    assert "bf16" not in made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"zero_optimization": {"stage": 3}}', r"zero_optimization.stage = 3, .* results in 2"),
        ('{"train_batch_size": 128}', r"train_batch_size = 128, .* results in 64"),
        ('{"train_batch_size": {"a": 1}}', r'train_batch_size = {"a": 1}, .* results in 64'),
        ('{"zero_optimization": 3}', r'zero_optimization = 3, .* results in {"stage": 2}'),
        ('{"optimizer": {"type": "Adam"}}', r"sets optimizer, .* use optim"),
        ('{"bf16": {"enabled": true}}', r"sets bf16, .* use compute.precision"),
        ("{", "is not JSON"),
        ("[]", "is not JSON: not a JSON object"),
    ],
)
def test_a_contradicting_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "ds.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        settings(configured(file), WORLD)

"""PowerSGD: its start and rank, and its error feedback and factors after a resume."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compare_checkpoints import checkpoint_values
from distdl.core.config import Config, DDPConfig, OptimConfig
from distdl.strategies import powersgd, shared_memory
from gpu_fake import CUDA, on_gpu
from jobs import train
from rank_threads import run_ranks
from small_steps import max_difference, trained
from thread_strategies import ddp_of

RECIPE = (
    *("--data.limit", "600", "--data.batch-size", "24", "--max-steps", "14", "--evaluate-every", "100"),
    *("--model.name", "mnist-cnn", "--optim.ema", "0.9", "--ddp.compress", "powersgd"),
    *("--checkpoint.every-steps", "12", "--checkpoint.keep", "5"),
)


def test_compression_begins_after_ten_steps_and_a_higher_rank_is_nearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)

    def weights(steps: int, **ddp: Any) -> dict[str, torch.Tensor]:
        config = Config(ddp=DDPConfig(**ddp), optim=OptimConfig(lr=0.1))
        return run_ranks(2, lambda rank: trained(ddp_of(rank, 2, config), steps=steps, parts=1))[0]

    assert max_difference(weights(10), weights(10, compress="powersgd", powersgd_rank=1)) < 1e-6
    exact = weights(14)
    # A matrix of 6 x 27 is compressed if that halves it, so up to rank 2.
    errors = [max_difference(exact, weights(14, compress="powersgd", powersgd_rank=rank)) for rank in (1, 2, 3)]
    assert errors[0] > errors[1] > 1e-5
    assert errors[2] < 1e-6


def test_the_result_of_a_bucket_on_a_gpu_waits_for_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[torch.device]] = []
    monkeypatch.setattr(powersgd, "Future", lambda devices: seen.append(devices))
    hook = powersgd.PowerSGD(torch.nn.Linear(2, 2), 1)
    for buffer in (on_gpu(torch.ones(4)), torch.ones(4)):
        hook(None, SimpleNamespace(buffer=lambda buffer=buffer: buffer, is_last=lambda: False))
    assert seen == [[CUDA], []]


@pytest.mark.world_size(2)
def test_a_resumed_run_adds_error_feedback_to_the_same_gradients(tmp_path: Path) -> None:
    """Compression starts after 10 steps; the resume is after 12.

    The results agree within rounding, because a matrix product rounds differently in the first step after a resume.
    """
    train([*RECIPE, "--out", str(tmp_path / "uncut")], ranks=2)
    middle = tmp_path / "uncut" / "checkpoints" / "step-00000012"
    train([*RECIPE, "--resume", str(middle), "--out", str(tmp_path / "resumed")], ranks=2)
    first, second = dict(checkpoint_values(tmp_path / "uncut")), dict(checkpoint_values(tmp_path / "resumed"))
    assert first.keys() == second.keys()
    tensors = [name for name, value in first.items() if isinstance(value, torch.Tensor)]
    assert any("error_dict" in name for name in tensors)
    assert any("p_memory_dict" in name for name in tensors)
    for name in tensors:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=2e-6, msg=name)

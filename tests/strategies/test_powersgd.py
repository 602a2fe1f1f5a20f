"""PowerSGD: its start and rank, and its error feedback and factors after a resume."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from compare_checkpoints import checkpoint_values
from distdl.runtime.tensors import load
from distdl.strategies import powersgd
from gpu_fake import CUDA, on_gpu
from jobs import train

RECIPE = (
    *("--data.limit", "600", "--data.batch-size", "24", "--max-steps", "14", "--evaluate-every", "100"),
    *("--model.name", "mnist-cnn", "--optim.ema", "0.9", "--ddp.compress", "powersgd"),
    *("--checkpoint.every-steps", "12", "--checkpoint.keep", "5"),
)


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The Euclidean norm of the difference of two sets of weights."""
    return sum(float((second[name] - value).square().sum()) for name, value in first.items()) ** 0.5


@pytest.mark.world_size(2)
def test_compression_begins_after_ten_steps_and_a_higher_rank_is_nearer(tmp_path: Path) -> None:
    def weights(name: str, *argv: str) -> list[dict[str, torch.Tensor]]:
        """Weights after 10 and 14 steps of SGD, in which a gradient changes them by its own size."""
        sgd = ("--optim.name", "sgd", "--optim.lr", "0.05", "--optim.weight-decay", "0")
        train([*RECIPE, *sgd, "--checkpoint.every-steps", "10", *argv, "--out", str(tmp_path / name)], ranks=2)
        folders = [tmp_path / name / "checkpoints" / f"step-{step:08d}" for step in (10, 14)]
        return [load(folder)[0]["model"] for folder in folders]

    exact = weights("exact", "--ddp.compress", "none")
    rank_1, rank_4 = (weights(rank, "--ddp.powersgd-rank", rank) for rank in ("1", "4"))
    assert distance(exact[0], rank_1[0]) < 1e-6
    assert 0.85 * distance(exact[1], rank_1[1]) > distance(exact[1], rank_4[1]) > 1e-3


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

"""Sums of an evaluation: each sample once, padding, crops, moving average and additional metrics."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.data.dataset import Batch, DataSet, ResidentSplit
from distdl.optim import losses
from distdl.optim.ema import EMA
from distdl.strategies.base import make
from distdl.training.evaluation import Evaluator, mean_over_crops
from distdl.training.metrics import TopK
from distdl.training.state import TrainState

IMAGES = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1])


class Batches:
    """Batches of two; the last one is padded with a sample that does not count."""

    skipped = ()

    def __init__(self, samples: int = 5) -> None:
        self._samples = samples

    def epoch(self, epoch: int, start: int = 0):
        for first in range(0, 5, 2):
            rows = [min(first, 4), min(first + 1, 4)]
            count = max(min(self._samples - first, 2), 0)
            yield Batch(IMAGES[rows], LABELS[rows], count=count, weight=1.0, total=count, indices=np.arange(count))


def evaluator(state: TrainState, samples: int = 5, loss_sum: losses.Loss | None = None) -> Evaluator:
    labels = LABELS.numpy()
    split = ResidentSplit(labels=labels, images=np.zeros((5, 2, 2, 1), np.uint8))
    dataset = DataSet(name="five", classes=("a", "b", "c"), train=split, test=split)
    config = Config(strategy="single")
    strategy = make(config)
    strategy.setup()
    return Evaluator(
        state,
        {"test": Batches(samples)},
        strategy,
        dataset,
        loss_sum=loss_sum or losses.build_sum(config),
        make_metrics=lambda: {"top-2": TopK(k=2)},
        autocast=torch.autocast("cpu", enabled=False),
    )


def state(ema: bool = False) -> TrainState:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return TrainState(model=model, optimizer=optimizer, ema=EMA(model, 0.9) if ema else None, samples=5)


@pytest.mark.parametrize("ema", [False, True])
def test_metrics_are_those_of_all_samples_without_padding(ema: bool) -> None:
    training = state(ema)
    with torch.no_grad():
        logits = training.model(IMAGES)
        if ema:  # the average has the initial weights
            training.model[1].weight.add_(1.0)
    weights = training.model[1].weight.detach().clone()
    metrics = evaluator(training).run("test")
    assert metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == LABELS).float().mean()))
    assert metrics["loss"] == pytest.approx(float(F.cross_entropy(logits, LABELS)), rel=1e-6)
    top = logits.topk(2, 1).indices
    assert metrics["top-2"] == pytest.approx(float((top == LABELS[:, None]).any(1).float().mean()))
    assert (metrics["epoch"], metrics["step"]) == (0, 0)
    assert "left_out" not in metrics and "best" not in metrics
    assert training.metrics == {"test": metrics}
    assert torch.equal(training.model[1].weight, weights)


def test_sums_have_double_precision() -> None:
    """In float32, 2^25 + 1 is 2^25: the loss of many samples would not be exact."""
    sums = iter([2.0**25, 1.0, 1.0])
    metrics = evaluator(state(), loss_sum=lambda logits, labels: torch.tensor(next(sums))).run("test")
    assert metrics["loss"] == (2**25 + 2) / 5


def test_unreadable_samples_are_omitted_and_counted() -> None:
    metrics = evaluator(state(), samples=3).run("test", best={"epoch": 2, "step": 7})
    assert (metrics["left_out"], metrics["best"], metrics["epoch"], metrics["step"]) == (2, True, 2, 7)


def test_an_evaluation_without_a_readable_sample_is_refused() -> None:
    with pytest.raises(UserError, match="data set five: none of the samples to evaluate on can be read"):
        evaluator(state(), samples=0).run("test")


def test_logits_of_crops_are_averaged() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    crops = torch.randn(2, 10, 1, 2, 2)
    expected = torch.stack([model(image).mean(0) for image in crops])
    torch.testing.assert_close(mean_over_crops(model, crops), expected)
    torch.testing.assert_close(mean_over_crops(model, crops[:, 0]), model(crops[:, 0]))

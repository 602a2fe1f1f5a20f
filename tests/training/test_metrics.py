"""Metrics by name: new for each evaluation, summed over ranks."""

import pytest
import torch

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.training import metrics


def test_top_k_counts_labels_among_the_largest_logits() -> None:
    metric = metrics.TopK(k=2)
    metric.update(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]))
    metric.update(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([2]))
    assert metric.compute() == pytest.approx(2 / 3)


def test_metrics_are_built_with_their_settings() -> None:
    config = Config(metrics=("top-k", "distdl.training.metrics:TopK"), options={"top-k": {"k": "1"}})
    built = metrics.build(config)
    assert list(built) == ["top-k", "TopK"]
    logits, labels = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1])
    for metric in built.values():
        metric.update(logits, labels)
    assert [metric.compute() for metric in built.values()] == [0.0, 1.0]
    assert metrics.build(config)["top-k"] is not built["top-k"]


def test_a_name_that_results_use_is_refused() -> None:
    with pytest.raises(UserError, match='the name "top-k" is already used'):
        metrics.build(Config(metrics=("top-k", "top-k")))
    with pytest.raises(UserError, match=r'options\.top-k\.kk: .* did you mean "k"'):
        metrics.build(Config(metrics=("top-k",), options={"top-k": {"kk": 1}}))


class Counted(metrics.TopK):
    """Remembers the classes and labels of the last update."""

    last = (0, ())

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        super().update(logits, labels)
        Counted.last = (tuple(logits.shape), tuple(labels.tolist()))


def test_metrics_are_tried_out_on_two_samples_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TopK", Counted)
    config = Config(metrics=("distdl.training.metrics:TopK",))
    metrics.try_out(config, 3, torch.device("cpu"))
    assert Counted.last == ((6, 3), (0, 1, 2, 0, 1, 2))

"""Evaluation of a split on all ranks."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from distdl.core.errors import UserError
from distdl.data.dataset import DataSet
from distdl.data.loaders.base import Loader
from distdl.optim.losses import Loss
from distdl.strategies.base import Strategy
from distdl.training import metrics as figures
from distdl.training.metrics import Metric
from distdl.training.state import TrainState


class Evaluator:
    """Evaluates the weights of a training: the moving average, if there is one."""

    def __init__(
        self,
        state: TrainState,
        loaders: Mapping[str, Loader],
        strategy: Strategy,
        dataset: DataSet,
        *,
        loss_sum: Loss,
        make_metrics: Callable[[], dict[str, Metric]],
        autocast: AbstractContextManager[object],
    ) -> None:
        self._state, self._loaders, self._strategy, self._dataset = state, loaders, strategy, dataset
        self._loss_sum, self._make_metrics, self._autocast = loss_sum, make_metrics, autocast

    @torch.no_grad()
    def run(self, split: str, best: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Compute accuracy, loss and further metrics over every sample of a split exactly once, for any world size.

        Ranks with fewer samples are padded with samples that do not count, so that all ranks take equally many steps.
        Unreadable samples are excluded (data.on_error skip); the metrics then contain their number as `left_out`.

        Args:
            best: epoch and step of the best weights, if those are evaluated instead of the weights of the last step.
        Raises:
            UserError: if no sample is readable.
        """
        self._strategy.sync_parameters()
        extra = self._make_metrics()
        correct, loss, count = self._sums(split, extra.values()).tolist()
        if not count:
            raise UserError(f"data set {self._dataset.name}: none of the samples to evaluate on can be read")
        weights = {"epoch": best["epoch"], "step": best["step"], "best": True} if best else self._state.epoch_and_step()
        metrics = {"accuracy": correct / count, "loss": loss / count}
        metrics |= {name: figures.value(name, metric) for name, metric in extra.items()} | weights
        if left_out := len(getattr(self._dataset, split)) - round(count):
            metrics["left_out"] = left_out
        self._state.metrics[split] = metrics
        return metrics

    def _sums(self, split: str, metrics: Collection[Metric]) -> torch.Tensor:
        """Numbers of correct predictions, sum of losses and number of samples over all ranks, [3] float64.

        Also reduces the sums of `metrics` over all ranks.
        """
        model, ema = self._state.model, self._state.ema
        for metric in metrics:
            metric.sums = metric.sums.to(self._strategy.world.device, torch.float64)
        model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self._strategy.world.device)
        with ema.swapped(model) if ema else nullcontext():
            for buffer in model.buffers():
                self._strategy.broadcast(buffer)  # rank 0's BatchNorm statistics: each rank has seen different samples
            for batch in self._loaders[split].epoch(0):
                with self._autocast:
                    logits = mean_over_crops(model, batch.images)
                logits, labels = logits[: batch.count].float(), batch.labels[: batch.count]
                sums[0] += (logits.argmax(1) == labels).sum()
                sums[1] += self._loss_sum(logits, labels)
                sums[2] += batch.count
                for metric in metrics if batch.count else ():
                    metric.update(logits, labels)
        for metric in metrics:
            metric.sums = self._strategy.all_reduce(metric.sums)
        return self._strategy.all_reduce(sums)


def mean_over_crops(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits [b, classes] of images [b, C, H, W]; for several crops per image, [b, crops, C, H, W], their mean."""
    if images.dim() == 4:
        return model(images)
    return model(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1)

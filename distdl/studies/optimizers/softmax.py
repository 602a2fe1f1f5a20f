"""Exercise 2: one linear layer on MNIST for one epoch, all 228 settings trained at once."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from distdl.core.config import DataConfig
from distdl.core.statistics import Spread, spread
from distdl.data.dataset import ResidentSplit, Split
from distdl.data.loaders import order
from distdl.data.sets import load as datasets
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.features.batched_optimizer import Setting, StackedOptimizer
from distdl.studies.optimizers import grids, published
from distdl.studies.runner.accuracy import cells, percent

CLASSES = 10
LAST = 0.1
"""Share of the steps, at the end of the epoch, over which the training loss is averaged: one batch is too noisy."""


def fit(
    settings: Sequence[Setting], images: torch.Tensor, labels: torch.Tensor, *, seed: int, batch: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Train softmax regression from zero weights for one epoch, in the order of `data.loaders.order`, for all settings.

    Args:
        images: [n, pixels] in 0 to 1. labels: [n] int64.
    Returns:
        weight [trials, 10, pixels], bias [trials, 10], and the mean loss [trials] over the epoch's last steps.
    """
    trials, pixels = len(settings), images.shape[1]
    weight = torch.zeros(trials, CLASSES, pixels, requires_grad=True)
    bias = torch.zeros(trials, CLASSES, requires_grad=True)
    optimizer = StackedOptimizer([weight, bias], settings)
    parts = torch.from_numpy(order.order(seed, 0, len(images))).split(batch)
    late, last = torch.zeros(trials), max(round(LAST * len(parts)), 1)
    for step, members in enumerate(parts):
        logits = predict(weight, bias, images[members])
        target = labels[members][:, None].expand(-1, trials)
        losses = F.cross_entropy(logits.movedim(2, 1), target, reduction="none").mean(0)
        optimizer.step(torch.autograd.grad(losses.sum(), [weight, bias]))
        if step >= len(parts) - last:
            late += losses.detach() / last
    return weight.detach(), bias.detach(), late


def predict(weight: torch.Tensor, bias: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Logits [b, trials, 10] of images [b, pixels]: the trials' weights are one matrix of many rows."""
    return (images @ weight.flatten(0, 1).T).unflatten(1, weight.shape[:2]) + bias


def run(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Run a trial: the whole grid with one seed. A loss that is not finite is None."""
    settings = grids.softmax()
    dataset = datasets.load(DataConfig(name="mnist", normalize="none"))
    images, labels = _flat(dataset.train)
    start = time.perf_counter()
    weight, bias, losses = fit(settings, images, labels, seed=int(table["seed"]), batch=int(table["batch"]))
    took_s = time.perf_counter() - start
    images, labels = _flat(dataset.test)
    with torch.no_grad():
        correct = torch.zeros(len(settings))
        for part, targets in zip(images.split(1000), labels.split(1000), strict=True):
            correct += (predict(weight, bias, part).argmax(2) == targets[:, None]).sum(0)
    return {
        "took_s": took_s,
        "images": len(dataset.train),
        "accuracy": (correct / len(labels)).tolist(),
        "loss": [value if math.isfinite(value) else None for value in losses.tolist()],
    }


def _flat(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(split, ResidentSplit)  # digits
    return torch.from_numpy(split.images).flatten(1) / 255, torch.from_numpy(split.labels)


def section(results: Sequence[Mapping[str, Any]], batch: int) -> Section:
    """Results of the grid over the seeds of `results`."""
    settings = grids.softmax()
    accuracy = [spread([100 * result["accuracy"][place] for result in results]) for place in range(len(settings))]
    losses = [_mean([result["loss"][place] for result in results]) for place in range(len(settings))]
    best = {
        kind: max(
            (place for place, setting in enumerate(settings) if grids.optimizer(setting) == kind),
            key=lambda place: accuracy[place].mean,
        )
        for kind in grids.OPTIMIZERS
    }
    return Section(
        title="Exercise 2: one linear layer on MNIST",
        text=f"One epoch over {results[0]['images']:,} images with batch size {batch}; weights initialized to zero, "
        "pixels scaled to 0 to 1. The seed determines the order of the samples. As in the published experiment, each "
        "optimizer's best setting is selected on the test set, which favors the optimizer with the most settings.",
        parts=(
            *_findings(settings, accuracy, best, results),
            _bests(settings, accuracy, losses, best),
            _rates(settings, accuracy),
            _momenta(settings, accuracy),
            _all_settings(settings, accuracy, losses),
        ),
    )


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def _published_setting(settings: list[Setting], kind: str) -> int:
    """Index of the setting that is published as the best."""
    label = published.SOFTMAX[kind].setting
    return next(
        index for index, value in enumerate(settings) if grids.optimizer(value) == kind and _label(value) == label
    )


def _label(setting: Setting) -> str:
    text = grids.label(setting).removeprefix(f"{grids.optimizer(setting)}, ")
    return text + (f", eps {setting.eps:.0e}".replace("e-0", "e-") if setting.kind == "adam" else "")


def _findings(
    settings: list[Setting], accuracy: list[Spread], best: dict[str, int], results: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    findings = []
    for kind in grids.OPTIMIZERS:
        claim, reached = published.SOFTMAX[kind], accuracy[_published_setting(settings, kind)]
        findings.append(
            Finding(
                text=f"{_capital(kind)} at the best published setting ({claim.setting}) reaches {percent(reached)} "
                f"(published: {claim.accuracy:g} %). The best measured setting, {_label(settings[best[kind]])}, "
                f"reaches {percent(accuracy[best[kind]])}.",
                n=reached.n,
                holds=abs(reached.mean - claim.accuracy) <= 1,
            )
        )
    first, second = sorted(best, key=lambda kind: -accuracy[best[kind]].mean)[:2]
    wins = accuracy[best[first]].beats(accuracy[best[second]])
    findings.append(
        Finding(
            text=f"{_capital(first)} is best: {percent(accuracy[best[first]])}, compared with "
            f"{percent(accuracy[best[second]])} of {second}; in the published results momentum is best."
            if wins
            else f"No optimizer is significantly best: {first} reaches {percent(accuracy[best[first]])} and {second} "
            f"{percent(accuracy[best[second]])}; in the published results momentum is best with 92 %.",
            n=accuracy[best[first]].n,
            holds=first == grids.MOMENTUM if wins else None,
        )
    )
    descent = {setting.lr: value for setting, value in zip(settings, accuracy, strict=True) if _plain(setting)}
    findings.append(
        Finding(
            text="In one epoch, high learning rates are better: gradient descent reaches "
            f"{percent(descent[0.0001])} at 0.0001 and {percent(descent[0.5])} at 0.5.",
            n=len(results),
            holds=descent[0.5].beats(descent[0.01]) and descent[0.01].beats(descent[0.0001])
            if len(results) > 1
            else None,
        )
    )
    took_s = sum(result["took_s"] for result in results) / len(results)
    text = f"Training all {len(settings)} settings at once took {took_s:.1f} s per seed."
    findings.append(Finding(text=text, n=len(results)))
    return findings


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _plain(setting: Setting) -> bool:
    return grids.optimizer(setting) == grids.GRADIENT_DESCENT


def _bests(settings: list[Setting], accuracy: list[Spread], losses: list[float | None], best: dict[str, int]) -> Table:
    rows = []
    for kind in grids.OPTIMIZERS:
        claim, published_position, position = published.SOFTMAX[kind], _published_setting(settings, kind), best[kind]
        rows.append(
            (
                kind,
                claim.setting,
                claim.accuracy,
                round(accuracy[published_position].mean, 2),
                claim.loss,
                losses[published_position],
                _label(settings[position]),
                round(accuracy[position].mean, 2),
                losses[position],
            )
        )
    return Table(
        name="softmax-best",
        title="Best setting of each optimizer, measured and published",
        columns=(
            "optimizer",
            "best published setting",
            "published accuracy (%)",
            "measured accuracy (%)",
            "published loss",
            "measured loss",
            "best measured setting",
            "accuracy (%)",
            "loss",
        ),
        rows=tuple(rows),
        note=f"Accuracy: on the test set. Loss: training loss, measured as the mean over the last {LAST:.0%} of the "
        "steps. The published loss is lower than any measured one; it is probably that of the last batch.",
    )


def _rates(settings: list[Setting], accuracy: list[Spread]) -> Figure:
    """Accuracy by learning rate; each optimizer has its best other settings for that learning rate."""
    top: dict[tuple[str, float], Spread] = {}
    for setting, value in zip(settings, accuracy, strict=True):
        key = (grids.optimizer(setting), setting.lr)
        if key not in top or value.mean > top[key].mean:
            top[key] = value
    ordered = sorted(top, key=lambda key: (grids.OPTIMIZERS.index(key[0]), key[1]))
    data = {
        "learning rate": [lr for _, lr in ordered],
        "accuracy": [top[key].mean for key in ordered],
        "low": [top[key].ends[0] for key in ordered],
        "high": [top[key].ends[1] for key in ordered],
        "optimizer": [kind for kind, _ in ordered],
    }
    shared = {"data": data, "x": "learning rate", "y": "accuracy", "series": "optimizer"}
    return Figure(
        name="softmax-rates",
        title="Accuracy by learning rate, with the best other settings",
        x=Axis(title="learning rate", scale="log"),
        y=Axis(title="test accuracy (%)"),
        layers=(PlotLayer(mark="line", **shared), PlotLayer(mark="points", low="low", high="high", **shared)),
    )


def _momenta(settings: list[Setting], accuracy: list[Spread]) -> Figure:
    cells = [
        (f"{setting.lr:g}", f"{setting.momentum:g}", round(value.mean, 2))
        for setting, value in zip(settings, accuracy, strict=True)
        if grids.optimizer(setting) == grids.MOMENTUM
    ]
    rates, momenta, values = zip(*cells, strict=True)
    return Figure(
        name="softmax-momentum",
        title="Momentum: accuracy by learning rate and momentum",
        x=Axis(title="learning rate", scale="category"),
        y=Axis(title="momentum", scale="category"),
        layers=(
            PlotLayer(
                mark="tiles",
                data={"learning rate": rates, "momentum": momenta, "test accuracy (%)": values},
                x="learning rate",
                y="momentum",
                value="test accuracy (%)",
            ),
        ),
    )


def _all_settings(settings: list[Setting], accuracy: list[Spread], losses: list[float | None]) -> Table:
    return Table(
        name="softmax",
        title=f"All {len(settings)} settings",
        columns=(
            "optimizer",
            "learning rate",
            "momentum",
            "beta1",
            "beta2",
            "eps",
            "accuracy (%)",
            "low",
            "high",
            "n",
            "training loss",
        ),
        rows=tuple(
            (
                *grids.columns(setting),
                setting.eps if setting.kind == "adam" else None,
                *cells(value),
                loss,
            )
            for setting, value, loss in zip(settings, accuracy, losses, strict=True)
        ),
        note="low and high: 95 % confidence interval over the seeds. An empty loss is not finite (divergence).",
    )

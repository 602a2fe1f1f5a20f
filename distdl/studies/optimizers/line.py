"""Exercise 1: a line through four points, all 88 settings trained at once, and the results."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.features.batched_optimizer import Setting, StackedOptimizer
from distdl.studies.optimizers import grids, published

X, Y = (1.0, 2.0, 3.0, 4.0), (0.0, -1.0, -2.0, -3.0)
START = (0.3, -0.3)
"""Initial W and b. They were not published; these values reproduce the published losses to the last digit (712 after
one step, 5.7e-11 after 1,000 steps)."""
PLOTTED = {  # the settings whose paths are drawn, by optimizer
    grids.GRADIENT_DESCENT: ((0.01, 0, 0), (0.001, 0, 0), (0.0001, 0, 0), (0.1, 0, 0)),
    grids.MOMENTUM: ((0.01, 0.8, 0), (0.01, 0.95, 0), (0.01, 0.99, 0), (0.0001, 0.9, 0)),
    grids.ADAGRAD: ((0.1, 0, 0), (0.01, 0, 0), (0.001, 0, 0)),
    grids.ADAM: ((0.1, 0.9, 0.99), (0.01, 0.9, 0.99), (0.01, 0.99, 0.9), (0.001, 0.8, 0.8)),
}
DENSE = 200
"""Number of initial steps of which every one is stored; a sparser path would not show the oscillations."""
SIDE = 49
"""Cells of the loss surface along each axis."""


def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Sum of squared errors over the four points, [...] for weight and bias [...]."""
    x, y = (torch.tensor(values, dtype=weight.dtype) for values in (X, Y))
    return ((weight[..., None] * x + bias[..., None] - y) ** 2).sum(-1)


def fit(settings: Sequence[Setting], steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Train each setting from START.

    Returns:
        path [steps + 1, trials, 2], W and b before the first and after each step; losses [steps + 1, trials]. float32.
    """
    line = torch.tensor([START]).repeat(len(settings), 1).requires_grad_()
    optimizer = StackedOptimizer([line], settings)
    path, losses = torch.empty(steps + 1, len(settings), 2), torch.empty(steps + 1, len(settings))
    for step in range(steps + 1):
        now = loss(*line.unbind(1))
        path[step], losses[step] = line.detach(), now.detach()
        if step < steps:
            optimizer.step(torch.autograd.grad(now.sum(), [line]))
    return path, losses


def run(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Run the trial, which trains the whole grid. Losses that are not finite are None."""
    settings, steps = grids.line(), int(table["steps"])
    start = time.perf_counter()
    path, losses = fit(settings, steps)
    took_s = time.perf_counter() - start
    stored = np.unique(np.geomspace(1, steps + 1, 80).round().astype(int)) - 1
    path_steps = np.union1d(stored, np.arange(min(DENSE, steps + 1)))
    rows = [
        {
            "loss": _number(losses[-1, trial]),
            "least_loss": float(losses[:, trial][losses[:, trial].isfinite()].min()),
            "first_step_loss": _number(losses[min(1, steps), trial]),
            "line": [_number(value) for value in path[-1, trial]],
            "path": [[_number(value) for value in place] for place in path[path_steps, trial]]
            if _is_plotted(setting)
            else [],
            "losses": [_number(value) for value in losses[stored, trial]],
            "lost_at": next(iter(np.flatnonzero(~losses[:, trial].isfinite().numpy()).tolist()), None),
        }
        for trial, setting in enumerate(settings)
    ]
    return {"took_s": took_s, "steps": steps, "kept": stored.tolist(), "rows": rows}


def _number(value: torch.Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def section(result: Mapping[str, Any]) -> Section:
    """Return the results of the grid and the published ones."""
    settings, rows, steps = grids.line(), result["rows"], result["steps"]
    claims = [published.line(setting) for setting in settings]
    agrees = [claim.agrees(row["loss"]) for claim, row in zip(claims, rows, strict=True)]
    table = Table(
        name="line",
        title=f"Loss of the line after {steps:,} steps, measured and published",
        columns=("optimizer", "learning rate", "momentum", "beta1", "beta2", "loss", "W", "b", "published", "agrees"),
        rows=tuple(
            (*grids.columns(setting), row["loss"], *row["line"], claim.text, agree)
            for setting, row, claim, agree in zip(settings, rows, claims, agrees, strict=True)
        ),
        note="An empty loss is not finite (divergence). 10e-5 is the published notation for 1e-4. A published 0 is "
        f"interpreted as a loss below {published.ROUNDING:g}, the last bit of float32.",
    )
    return Section(
        title="Exercise 1: a line through four points",
        text=f"y = Wx + b through {', '.join(f'({x:g}, {y:g})' for x, y in zip(X, Y, strict=True))}, from W = "
        f"{START[0]:g} and b = {START[1]:g}, in float32. Nothing is random, so n = 1.",
        parts=(
            *_findings(settings, rows, claims, agrees, result),
            table,
            *(_surface(kind, settings, result) for kind in grids.OPTIMIZERS),
            _curves(settings, result),
        ),
    )


def _findings(
    settings: list[Setting],
    rows: list[Mapping[str, Any]],
    claims: list[published.Claim],
    agrees: list[bool],
    result: Mapping[str, Any],
) -> list[Finding]:
    def of(kind: str, **fields: float) -> list[Mapping[str, Any]]:
        return [
            row
            for setting, row in zip(settings, rows, strict=True)
            if grids.optimizer(setting) == kind and all(getattr(setting, key) == value for key, value in fields.items())
        ]

    [steep], [good] = of(grids.GRADIENT_DESCENT, lr=0.1), of(grids.GRADIENT_DESCENT, lr=0.01)
    adam = [row["loss"] for row in of(grids.ADAM, lr=0.1, beta2=0.99)]
    zero = [loss is not None and loss <= published.ROUNDING for loss in adam[:3]]
    best = min(rows, key=lambda row: math.inf if row["loss"] is None else row["loss"])
    return [
        Finding(
            text=f"Gradient descent at 0.1 diverges: its loss is {_text(steep['first_step_loss'])} after one step "
            f"(published: 712) and is not finite from step {steep['lost_at']} on.",
            n=1,
            holds=steep["loss"] is None and round(steep["first_step_loss"] or 0) == 712,
        ),
        Finding(
            text=f"Gradient descent at 0.01 reaches a loss of {_text(good['loss'])} (published: 5.7e-11).",
            n=1,
            holds=published.line(settings[rows.index(good)]).agrees(good["loss"]),
        ),
        Finding(
            text=f"Adam at 0.1 with beta2 = 0.99 reaches {', '.join(map(_text, adam[:3]))} for beta1 = 0.8, 0.9, 0.95 "
            "(published: 0 for all three).",
            n=1,
            holds=all(zero),
        ),
        Finding(
            text=f"The final loss of {sum(agrees)} of {len(agrees)} settings agrees with the published one"
            + (
                "."
                if all(agrees)
                else f". Exceptions: {'; '.join(_exceptions(rows, claims, agrees))}. {_oscillation(rows, claims)}"
            ),
            n=1,
            holds=all(agrees),
        ),
        Finding(
            text=f"The best setting finds W = {best['line'][0]:.6g}, b = {best['line'][1]:.6g} (published: -1, 1).",
            n=1,
            holds=np.allclose(best["line"], (-1, 1), atol=1e-5),
        ),
        Finding(
            text=f"Training all {len(rows)} settings at once for {result['steps']:,} steps took {result['took_s']:.2g} "
            "s.",
            n=1,
        ),
    ]


def _exceptions(rows: list[Mapping[str, Any]], claims: list[published.Claim], agrees: list[bool]) -> Iterator[str]:
    """A text for each row of the published tables with which some settings disagree."""
    for claim in dict.fromkeys(claims):
        of_claim = [
            (row["loss"], agree) for row, each, agree in zip(rows, claims, agrees, strict=True) if each == claim
        ]
        losses = [math.inf if value is None else value for value, agree in of_claim if not agree]
        if losses:
            span = _text(losses[0]) if len(losses) == 1 else f"{_text(min(losses))} to {_text(max(losses))}"
            yield f'{claim.optimizer} at {claim.lr:g}, "{claim.text}": {len(losses)} of {len(of_claim)} have {span}'


def _oscillation(rows: list[Mapping[str, Any]], claims: list[published.Claim]) -> str:
    """Reason for most differences: if the parameters oscillate about the minimum, the final loss is arbitrary."""
    differing = [(row, claim) for row, claim in zip(rows, claims, strict=True) if not claim.agrees(row["loss"])]
    earlier = sum(claim.agrees(row["least_loss"]) or row["least_loss"] < claim.low for row, claim in differing)
    return (
        f"{earlier} of these {len(differing)} reached the published loss at an earlier step and oscillate about the "
        "minimum at the last step."
    )


def _text(loss: float | None) -> str:
    return "nan" if loss is None else f"{loss:.3g}"


def _surface(kind: str, settings: list[Setting], result: Mapping[str, Any]) -> Figure:
    """Paths over the logarithm of the loss."""
    weights, biases = np.linspace(-2.6, 1.4, SIDE), np.linspace(-1.6, 2.4, SIDE)
    grid = np.stack(np.meshgrid(weights, biases, indexing="ij"), -1).reshape(-1, 2)
    surface = loss(*torch.from_numpy(grid).unbind(1)).clamp(min=1e-3).log10()
    columns: dict[str, list[Any]] = {"W": [], "b": [], "setting": []}
    for setting, row in zip(settings, result["rows"], strict=True):
        if grids.optimizer(setting) != kind or not _is_plotted(setting):
            continue
        name = grids.label(setting).removeprefix(f"{kind}, ")
        for place in row["path"]:
            if None in place or not (weights[0] <= place[0] <= weights[-1] and biases[0] <= place[1] <= biases[-1]):
                break  # it leaves the figure
            for key, value in zip(columns, (*place, name), strict=True):
                columns[key].append(value)
    return Figure(
        name=f"line-path-{kind.replace(' ', '-').lower()}",
        title=f"Path over the loss surface: {kind}",
        x=Axis(title="W"),
        y=Axis(title="b"),
        layers=(
            PlotLayer(
                mark="tiles",
                data={
                    "W": grid[:, 0].round(4).tolist(),
                    "b": grid[:, 1].round(4).tolist(),
                    "log10 of the loss": surface.numpy().round(3).tolist(),
                },
                x="W",
                y="b",
                value="log10 of the loss",
            ),
            PlotLayer(mark="line", data=columns, x="W", y="b", series="setting"),
        ),
        caption=f"Start: ({START[0]:g}, {START[1]:g}); minimum: (-1, 1). A path that leaves the figure is cut off.",
    )


def _is_plotted(setting: Setting) -> bool:
    fields = (setting.lr, setting.momentum, 0) if setting.kind == "sgd" else (setting.lr, 0, 0)
    if setting.kind == "adam":
        fields = (setting.lr, setting.beta1, setting.beta2)
    return fields in PLOTTED[grids.optimizer(setting)]


def _curves(settings: list[Setting], result: Mapping[str, Any]) -> Figure:
    """Loss against step for each optimizer's best setting."""
    columns: dict[str, list[Any]] = {"step": [], "loss": [], "setting": []}
    for kind in grids.OPTIMIZERS:
        members = [place for place, setting in enumerate(settings) if grids.optimizer(setting) == kind]
        finals = [result["rows"][place]["loss"] for place in members]
        best = members[int(np.argmin([math.inf if value is None else value for value in finals]))]
        for step, value in zip(result["kept"], result["rows"][best]["losses"], strict=True):
            if value and step:  # the axes are logarithmic
                for key, cell in zip(columns, (step, value, grids.label(settings[best])), strict=True):
                    columns[key].append(cell)
    return Figure(
        name="line-loss",
        title="Loss of the best setting of each optimizer",
        x=Axis(title="step", scale="log"),
        y=Axis(title="loss", scale="log"),
        layers=(PlotLayer(mark="line", data=columns, x="step", y="loss", series="setting"),),
        caption="A curve ends where the loss is 0.",
    )

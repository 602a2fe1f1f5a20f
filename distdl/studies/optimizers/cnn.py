"""Exercise 3: a convolutional network on MNIST, one training per setting and seed."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from distdl.core.profiles import Recipe
from distdl.core.statistics import Spread
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.base import Outcome, Trial
from distdl.studies.optimizers import published
from distdl.studies.runner.accuracy import cells, mean_accuracy, percent


@dataclass(frozen=True, kw_only=True, order=True)
class Point:
    """Settings of a training except the seed."""

    epochs: int
    optimizer: str
    """adam, sgd, momentum, adagrad."""
    lr: float
    batch: int
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)

    @property
    def name(self) -> str:
        suffix = f"-m{self.momentum:g}" if self.momentum else ""
        suffix += f"-betas{self.betas[0]:g}-{self.betas[1]:g}" if self.betas != (0.9, 0.999) else ""
        return f"cnn-{self.epochs}ep-{self.optimizer}-lr{self.lr:g}-b{self.batch}{suffix}"

    def recipe(self, images: int, seed: int) -> Recipe:
        """Return the training; its profile has the published network, and Adam with the eps of Keras."""
        base = Recipe(
            profile="mnist-cnn",
            overrides={
                "epochs": self.epochs,
                "evaluate_every": self.epochs,
                "checkpoint.every_epochs": 0,
                "seed": seed,
                "data.limit": images,
                "data.batch_size": self.batch,
                "optim.lr": self.lr,
            },
        )
        if self.optimizer == "adam":
            return base.updated({"optim.betas": self.betas})
        if self.optimizer == "adagrad":
            return base.updated({"optim.name": "adagrad", "optim.eps": 1e-10})
        # The profile's eps is for Adam; its default value is allowed for SGD.
        return base.updated({"optim.name": "sgd", "optim.momentum": self.momentum, "optim.eps": 1e-8})


def trials(points: list[Point], images: int, seeds: int) -> Iterator[Trial]:
    """Yield a trial for each point and each seed."""
    for seed, point in itertools.product(range(seeds), points):
        yield Trial(
            name=f"{point.name}-seed{seed}",
            recipe=point.recipe(images, seed),
            labels={
                "exercise": 3,
                "optimizer": point.optimizer,
                "lr": point.lr,
                "batch": point.batch,
                "epochs": point.epochs,
                "seed": seed,
            },
        )


def section(points: list[Point], images: int, seeds: int, outcomes: Mapping[str, Outcome]) -> Section | None:
    """Return the results of the trainings; None while none is completed."""
    results = {
        point: value
        for point in points
        if (value := mean_accuracy(outcomes.get(f"{point.name}-seed{seed}") for seed in range(seeds)))
    }
    if not results:
        return None
    is_complete = images in (0, 50_000)
    grid = {point: value for point, value in results.items() if point.optimizer == "adam"}
    return Section(
        title="Exercise 3: the convolutional network on MNIST",
        text=f"3,274,634 parameters, trained on {images or 60_000:,} images, tested on 10,000."
        + ("" if is_complete else " The published accuracies are those of training on 50,000 images."),
        parts=(
            *_by_batch(grid),
            *_by_epochs(grid),
            *_by_optimizer(results),
            *(finding for epochs in sorted({point.epochs for point in grid}) for finding in _best(grid, epochs)),
            *(_heat(grid, epochs) for epochs in sorted({point.epochs for point in grid})),
            *_curves(results),
            _table(results, is_complete),
        ),
    )


def _by_batch(grid: Mapping[Point, Spread]) -> Iterator[Finding]:
    """Check that a small learning rate needs a small batch size, that is, many steps per epoch."""
    for epochs, lr in sorted({(point.epochs, point.lr) for point in grid}):
        selected = sorted(((p.batch, value) for p, value in grid.items() if (p.epochs, p.lr) == (epochs, lr)))
        if len(selected) < 2 or lr > 1e-4:
            continue
        (small, first), (large, last) = selected[0], selected[-1]
        yield Finding(
            text=f"At the small learning rate {lr:g}, after {_passes(epochs)}, batch size {small} reaches "
            f"{percent(first)} and batch size {large} {percent(last)}: a small learning rate needs many steps.",
            n=first.n,
            holds=first.beats(last) if first.n > 1 else None,
        )


def _by_epochs(grid: Mapping[Point, Spread]) -> Iterator[Finding]:
    """Compare short and long training, for the setting that is best after the long one."""
    pairs = [
        (short, long) for short in grid for long in grid if long.epochs > short.epochs and _same_but_epochs(short, long)
    ]
    if not pairs:
        return
    short, long = max(pairs, key=lambda pair: grid[pair[1]].mean)
    yield Finding(
        text=f"At learning rate {short.lr:g} and batch size {short.batch}, accuracy is {percent(grid[long])} after "
        f"{_passes(long.epochs)} and {percent(grid[short])} after {_passes(short.epochs)}; published: 99.3 % after 40 "
        "epochs and 97.2 % after one.",
        n=grid[long].n,
        holds=grid[long].beats(grid[short]) if grid[long].n > 1 else None,
    )


def _same_but_epochs(first: Point, other: Point) -> bool:
    return (first.optimizer, first.lr, first.batch, first.betas) == (
        other.optimizer,
        other.lr,
        other.batch,
        other.betas,
    )


def _by_optimizer(results: Mapping[Point, Spread]) -> Iterator[Finding]:
    """Compare the best setting of each optimizer, at the epochs and batch size with most optimizers."""
    tried = {}
    for point in results:
        tried.setdefault((point.epochs, point.batch), set()).add(point.optimizer)
    (epochs, batch), kinds = max(tried.items(), key=lambda item: len(item[1]))
    if len(kinds) < 2:
        return
    selected = {point: value for point, value in results.items() if (point.epochs, point.batch) == (epochs, batch)}
    best = sorted(
        (max((p for p in selected if p.optimizer == kind), key=lambda p: selected[p].mean) for kind in kinds),
        key=lambda p: -selected[p].mean,
    )
    wins = selected[best[0]].beats(selected[best[1]])
    listed = "; ".join(f"{_setting(point)}: {percent(selected[point])}" for point in best)
    yield Finding(
        text=f"Optimizers at their best learning rate, {_passes(epochs)}, batch size {batch}: {listed}. "
        + (
            "The first one is significantly better than the second."
            if wins
            else "The difference between the first two is not significant."
        ),
        n=selected[best[0]].n,
    )


def _best(grid: Mapping[Point, Spread], epochs: int) -> Iterator[Finding]:
    selected = {point: value for point, value in grid.items() if point.epochs == epochs}
    if len(selected) < 2:
        return
    best = max(selected, key=lambda point: selected[point].mean)
    claim = "99.3 % at 1e-4, batch size 8 or 16" if epochs >= 40 else "98.7 % at 1e-3, batch size 16, in one epoch"
    yield Finding(
        text=f"Best of {len(selected)} settings of Adam, {_passes(epochs)}: {percent(selected[best])} at learning rate "
        f"{best.lr:g}, batch size {best.batch}; best published result: {claim}.",
        n=selected[best].n,
        holds=best.lr == 1e-3 if epochs == 1 else best.lr == 1e-4 and best.batch <= 16,
    )


def _passes(epochs: int) -> str:
    return "one epoch" if epochs == 1 else f"{epochs} epochs"


def _setting(point: Point) -> str:
    momentum = f" {point.momentum:g}" if point.momentum else ""
    return f"{point.optimizer}{momentum} at {point.lr:g}"


def _heat(grid: Mapping[Point, Spread], epochs: int) -> Figure:
    selected = sorted(
        ((p.batch, -p.lr, p, value) for p, value in grid.items() if p.epochs == epochs), key=lambda c: c[:2]
    )
    return Figure(
        name=f"cnn-{epochs}ep",
        title=f"Adam, {_passes(epochs)}: accuracy by learning rate and batch size",
        x=Axis(title="batch size", scale="category"),
        y=Axis(title="learning rate", scale="category"),
        layers=(
            PlotLayer(
                mark="tiles",
                data={
                    "batch size": [str(batch) for batch, *_ in selected],
                    "learning rate": [f"{point.lr:g}" for *_, point, _ in selected],
                    "test accuracy (%)": [round(value.mean, 2) for *_, value in selected],
                },
                x="batch size",
                y="learning rate",
                value="test accuracy (%)",
            ),
        ),
    )


def _curves(results: Mapping[Point, Spread]) -> Iterator[Figure]:
    """Accuracy by learning rate for each optimizer, at the batch size with most optimizers."""
    batches = [point.batch for point in results if point.epochs == 1]
    if not batches:
        return
    batch = max(set(batches), key=lambda size: (len({p.optimizer for p in results if p.batch == size}), -size))
    selected = sorted(
        (p for p in results if (p.epochs, p.batch) == (1, batch)), key=lambda p: (p.optimizer, p.momentum, p.lr)
    )
    data = {
        "learning rate": [point.lr for point in selected],
        "accuracy": [results[point].mean for point in selected],
        "low": [results[point].ends[0] for point in selected],
        "high": [results[point].ends[1] for point in selected],
        "optimizer": [_setting(point).split(" at ")[0] for point in selected],
    }
    shared = {"data": data, "x": "learning rate", "y": "accuracy", "series": "optimizer"}
    yield Figure(
        name="cnn-rates",
        title=f"Accuracy after one epoch by learning rate, batch size {batch}",
        x=Axis(title="learning rate", scale="log"),
        y=Axis(title="test accuracy (%)"),
        layers=(PlotLayer(mark="line", **shared), PlotLayer(mark="points", low="low", high="high", **shared)),
    )


def _table(results: Mapping[Point, Spread], is_complete: bool) -> Table:
    def printed(point: Point) -> float | str | None:
        if point.optimizer != "adam" or point.epochs not in (1, 40):
            return None
        table, floor = (published.CNN_ONE_EPOCH, 95) if point.epochs == 1 else (published.CNN_FORTY_EPOCHS, 99)
        return table.get((point.lr, point.batch), f"not above {floor}" if _tried(point) else None)

    return Table(
        name="cnn",
        title="Test accuracy, measured and published",
        columns=(
            "epochs",
            "optimizer",
            "learning rate",
            "momentum",
            "betas",
            "batch size",
            "accuracy (%)",
            "low",
            "high",
            "n",
            "published (%)",
        ),
        rows=tuple(
            (
                point.epochs,
                point.optimizer,
                point.lr,
                point.momentum or None,
                f"{point.betas[0]:g}, {point.betas[1]:g}" if point.optimizer == "adam" else None,
                point.batch,
                *cells(value),
                printed(point),
            )
            for point, value in sorted(results.items())
        ),
        note="low and high: 95 % confidence interval over the seeds."
        + ("" if is_complete else " The published accuracies are those of training on 50,000 images."),
    )


def _tried(point: Point) -> bool:
    """Whether a setting is in the published grid: a result above the published threshold would then be listed."""
    if point.epochs == 1:
        return point.batch in (1, 2, 4, 8, 16, 250, 500, 1000)
    return point.batch in (8, 16, 32, 64, 128, 256) and point.lr in (1e-6, 1e-5, 1e-4)

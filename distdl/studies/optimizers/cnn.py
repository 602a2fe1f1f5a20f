"""Exercise 3 of document 004: its convolutional network on MNIST, each setting a training of its own."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from distdl.core.profiles import Recipe
from distdl.core.statistics import Spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.studies.base import Outcome, Trial
from distdl.studies.optimizers import published as document
from distdl.studies.runner.accuracy import cells, mean_accuracy, percent


@dataclass(frozen=True, kw_only=True, order=True)
class Point:
    """A training without its seed."""

    epochs: int
    optimizer: str
    """adam, sgd, momentum, adagrad."""
    lr: float
    batch: int
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)

    @property
    def name(self) -> str:
        more = f"-m{self.momentum:g}" if self.momentum else ""
        more += f"-betas{self.betas[0]:g}-{self.betas[1]:g}" if self.betas != (0.9, 0.999) else ""
        return f"cnn-{self.epochs}ep-{self.optimizer}-lr{self.lr:g}-b{self.batch}{more}"

    def recipe(self, images: int, seed: int) -> Recipe:
        """The training. Its profile is the published network, with Adam and the eps of Keras."""
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
        # eps is Adam's: with its default value it is no field without effect.
        return base.updated({"optim.name": "sgd", "optim.momentum": self.momentum, "optim.eps": 1e-8})


def trials(points: list[Point], images: int, seeds: int) -> Iterator[Trial]:
    """Each point with each seed."""
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
    """What the trainings show; None while none is completed."""
    found = {
        point: value
        for point in points
        if (value := mean_accuracy(outcomes.get(f"{point.name}-seed{seed}") for seed in range(seeds)))
    }
    if not found:
        return None
    whole = images in (0, 50_000)
    grid = {point: value for point, value in found.items() if point.optimizer == "adam"}
    return Section(
        title="Exercise 3: the convolutional network on MNIST",
        text=f"3,274,634 parameters, trained on {images or 60_000:,} images, tested on 10,000."
        + ("" if whole else " The document trains on 50,000: its accuracies stand beside these, and are not equal."),
        parts=(
            *_by_batch(grid),
            *_by_epochs(grid),
            *_by_optimizer(found),
            *(found for epochs in sorted({point.epochs for point in grid}) for found in _best(grid, epochs)),
            *(_heat(grid, epochs) for epochs in sorted({point.epochs for point in grid})),
            *_curves(found),
            _table(found, whole),
        ),
    )


def _by_batch(grid: Mapping[Point, Spread]) -> Iterator[Finding]:
    """The document: the smaller the rate, the smaller the batch must be, for it takes more steps."""
    for epochs, lr in sorted({(point.epochs, point.lr) for point in grid}):
        own = sorted(((p.batch, value) for p, value in grid.items() if (p.epochs, p.lr) == (epochs, lr)))
        if len(own) < 2 or lr > 1e-4:
            continue
        (small, first), (large, last) = own[0], own[-1]
        yield Finding(
            text=f"At the small rate {lr:g}, {_passes(epochs)}, batches of {small} reach {percent(first)} and those "
            f"of {large} {percent(last)}: a small rate needs many steps.",
            n=first.n,
            holds=first.beats(last) if first.n > 1 else None,
        )


def _by_epochs(grid: Mapping[Point, Spread]) -> Iterator[Finding]:
    """More epochs, of the setting that is best after them."""
    pairs = [(one, more) for one in grid for more in grid if more.epochs > one.epochs and _same_but_epochs(one, more)]
    if not pairs:
        return
    one, more = max(pairs, key=lambda pair: grid[pair[1]].mean)
    yield Finding(
        text=f"At {one.lr:g} and batches of {one.batch}, {_passes(more.epochs)} reach {percent(grid[more])} and "
        f"{_passes(one.epochs)} {percent(grid[one])}; the document has 99.3 % after 40 and 97.2 % after one.",
        n=grid[more].n,
        holds=grid[more].beats(grid[one]) if grid[more].n > 1 else None,
    )


def _same_but_epochs(one: Point, other: Point) -> bool:
    return (one.optimizer, one.lr, one.batch, one.betas) == (other.optimizer, other.lr, other.batch, other.betas)


def _by_optimizer(found: Mapping[Point, Spread]) -> Iterator[Finding]:
    """Each optimizer at its best, where they were all tried: over one epoch and batches of one size."""
    tried = {}
    for point in found:
        tried.setdefault((point.epochs, point.batch), set()).add(point.optimizer)
    (epochs, batch), kinds = max(tried.items(), key=lambda item: len(item[1]))
    if len(kinds) < 2:
        return
    own = {point: value for point, value in found.items() if (point.epochs, point.batch) == (epochs, batch)}
    best = sorted(
        (max((p for p in own if p.optimizer == kind), key=lambda p: own[p].mean) for kind in kinds),
        key=lambda p: -own[p].mean,
    )
    wins = own[best[0]].beats(own[best[1]])
    listed = "; ".join(f"{_setting(point)} {percent(own[point])}" for point in best)
    yield Finding(
        text=f"Optimizers at their best rate, {_passes(epochs)}, batches of {batch}: {listed}. "
        + (f"{_setting(best[0])} wins." if wins else "The first two cannot be told apart."),
        n=own[best[0]].n,
    )


def _best(grid: Mapping[Point, Spread], epochs: int) -> Iterator[Finding]:
    own = {point: value for point, value in grid.items() if point.epochs == epochs}
    if len(own) < 2:
        return
    best = max(own, key=lambda point: own[point].mean)
    claim = "99.3 % at 1e-4, batches of 8 or 16" if epochs >= 40 else "98.7 % at 1e-3, batches of 16, in one epoch"
    yield Finding(
        text=f"Best of Adam's {len(own)} settings, {_passes(epochs)}: {percent(own[best])} at {best.lr:g}, batches of "
        f"{best.batch}; the document's best is {claim}.",
        n=own[best].n,
        holds=best.lr == 1e-3 if epochs == 1 else best.lr == 1e-4 and best.batch <= 16,
    )


def _passes(epochs: int) -> str:
    return "one epoch" if epochs == 1 else f"{epochs} epochs"


def _setting(point: Point) -> str:
    momentum = f" {point.momentum:g}" if point.momentum else ""
    return f"{point.optimizer}{momentum} at {point.lr:g}"


def _heat(grid: Mapping[Point, Spread], epochs: int) -> Figure:
    own = sorted(((p.batch, -p.lr, p, value) for p, value in grid.items() if p.epochs == epochs), key=lambda c: c[:2])
    return Figure(
        name=f"cnn-{epochs}ep",
        title=f"Adam, {_passes(epochs)}: accuracy by learning rate and batch size",
        x=Axis(title="batch size", scale="category"),
        y=Axis(title="learning rate", scale="category"),
        layers=(
            Layer(
                mark="tiles",
                data={
                    "batch size": [str(batch) for batch, *_ in own],
                    "learning rate": [f"{point.lr:g}" for *_, point, _ in own],
                    "test accuracy (%)": [round(value.mean, 2) for *_, value in own],
                },
                x="batch size",
                y="learning rate",
                value="test accuracy (%)",
            ),
        ),
    )


def _curves(found: Mapping[Point, Spread]) -> Iterator[Figure]:
    """Accuracy over the rate for each optimizer, at the batch size at which most were tried."""
    batches = [point.batch for point in found if point.epochs == 1]
    if not batches:
        return
    batch = max(set(batches), key=lambda size: (len({p.optimizer for p in found if p.batch == size}), -size))
    own = sorted((p for p in found if (p.epochs, p.batch) == (1, batch)), key=lambda p: (p.optimizer, p.momentum, p.lr))
    data = {
        "learning rate": [point.lr for point in own],
        "accuracy": [found[point].mean for point in own],
        "low": [found[point].ends[0] for point in own],
        "high": [found[point].ends[1] for point in own],
        "optimizer": [_setting(point).split(" at ")[0] for point in own],
    }
    shared = {"data": data, "x": "learning rate", "y": "accuracy", "series": "optimizer"}
    yield Figure(
        name="cnn-rates",
        title=f"Accuracy after one epoch over the learning rate, batches of {batch}",
        x=Axis(title="learning rate", scale="log"),
        y=Axis(title="test accuracy (%)"),
        layers=(Layer(mark="line", **shared), Layer(mark="points", low="low", high="high", **shared)),
    )


def _table(found: Mapping[Point, Spread], whole: bool) -> Table:
    def printed(point: Point) -> float | str | None:
        if point.optimizer != "adam" or point.epochs not in (1, 40):
            return None
        table, floor = (document.CNN_ONE_EPOCH, 95) if point.epochs == 1 else (document.CNN_FORTY_EPOCHS, 99)
        return table.get((point.lr, point.batch), f"not above {floor}" if _tried(point) else None)

    return Table(
        name="cnn",
        title="Accuracy on the test set, beside the document's",
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
            "document (%)",
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
            for point, value in sorted(found.items())
        ),
        note="low and high: 95 % interval over the seeds."
        + ("" if whole else " The document's are after training on 50,000 images."),
    )


def _tried(point: Point) -> bool:
    """Whether the document tried a setting, and would have printed it, had it been good."""
    if point.epochs == 1:
        return point.batch in (1, 2, 4, 8, 16, 250, 500, 1000)
    return point.batch in (8, 16, 32, 64, 128, 256) and point.lr in (1e-6, 1e-5, 1e-4)

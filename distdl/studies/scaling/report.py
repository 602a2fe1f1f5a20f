"""Sentences, tables and figures of the study `scaling`."""

import math
from collections.abc import Callable, Sequence

from distdl.core.format import Cell
from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.report.sentences import CHANCE
from distdl.studies.scaling.results import Repeat, amdahl, karp_flatt, speed_ups

PUBLISHED = {1: (610.0, 0.9912), 2: (324.0, 0.99), 4: (156.0, 0.9891)}
"""The MNIST CNN on 1, 2 and 4 GPUs: seconds of 40 epochs, test accuracy."""
Points = dict[tuple[str, int], list[Repeat]]


def sections(repeats: Sequence[Repeat], *, mode: str, epochs: int, is_published: bool) -> list[Section]:
    """Results of the repeats.

    Args:
        is_published: whether they have the settings of the published experiment.
    """
    strategies = sorted({repeat.strategy for repeat in repeats if repeat.workers > 1})
    points: Points = {}
    for repeat in sorted(repeats, key=lambda repeat: (repeat.workers, repeat.strategy, repeat.seed)):
        points.setdefault((repeat.strategy, repeat.workers), []).append(repeat)
    parts = [*_times(repeats, points), *_accuracy(points), *_laws(repeats, strategies)]
    made = [
        Section(title="Scaling", text=_text(repeats, mode, epochs), parts=(*parts, *_tables(repeats, points))),
        Section(title="By number of workers", parts=_figures(repeats, points)),
        Section(title="During training", parts=_curves(points)),
    ]
    return [*made, _next_to_published(points, repeats)] if is_published else made


def _text(repeats: Sequence[Repeat], mode: str, epochs: int) -> str:
    batch = "each worker's batch stays the same" if mode == "weak" else "the batch of all workers stays the same"
    text = f"{epochs} epochs of the same images, {mode} scaling: {batch}. Times are of epochs after the first"
    text += ", each repetition compared with one worker's of the same round."
    if any(repeat.oversubscribed for repeat in repeats):
        text += " Workers that share cores (oversubscribed) are shown, but left out of speed-ups and fits."
    if any(repeat.resumed for repeat in repeats):
        text += " Trainings that were cut and resumed are left out of times."
    return text


def _times(repeats: Sequence[Repeat], points: Points) -> list[Finding]:
    made = []
    for (strategy, workers), several in points.items():
        ratios = speed_ups(_timed(repeats), _timed(several))
        if workers == 1 or not ratios:
            continue
        speed_up, efficiency = spread(ratios), spread([ratio / workers for ratio in ratios])
        exposed = spread([repeat.exposed for repeat in several])
        text = f"{strategy}: {workers} workers train {speed_up} times as fast as one, an efficiency of {efficiency}; "
        text += f"{exposed.mean:.1%} of their time is exposed communication."
        holds = speed_up.low > 1 if speed_up.n > 1 else None
        made.append(Finding(text=text, n=speed_up.n, holds=holds))
    return made


def _accuracy(points: Points) -> list[Finding]:
    """Compare accuracy with that of one worker, by seed."""
    of_one = {repeat.seed: repeat.accuracy for (_, workers), same in points.items() if workers == 1 for repeat in same}
    made = []
    for (strategy, workers), several in points.items():
        differences = [repeat.accuracy - of_one[repeat.seed] for repeat in several if repeat.seed in of_one]
        if workers == 1 or not differences:
            continue
        change, reached = spread(differences), spread([repeat.accuracy for repeat in several])
        verdict = "more" if change.low > 0 else "less" if change.high < 0 else CHANCE
        text = f"{strategy}: {workers} workers reach {reached.mean:.2%}, {abs(change.mean) * 100:.2f} points "
        text += f"{'above' if change.mean > 0 else 'below'} one worker"
        text += f" ({change.low * 100:+.2f} to {change.high * 100:+.2f})" if change.n > 1 else ""
        text += f", {verdict}." if change.n > 1 else "."
        made.append(Finding(text=text, n=change.n))
    return made


def _laws(repeats: Sequence[Repeat], strategies: Sequence[str]) -> list[Finding]:
    made = []
    for strategy in strategies:
        timed = [repeat for repeat in _timed(repeats) if repeat.workers == 1 or repeat.strategy == strategy]
        law = amdahl(timed)
        if not law:
            continue
        share = law.serial_s / (law.serial_s + law.parallel_s)
        text = f"{strategy}: an epoch takes {law.serial_s:.3g} s + {law.parallel_s:.3g} s / workers (Amdahl), so that "
        text += f"{share:.1%} of it is not divided; "
        text += "two numbers of workers leave none to check the fit." if law.points == 2 else f"{law.error:.1%} off."
        if law.parallel_s < 1e-6 * law.serial_s:
            text = f"{strategy}: more workers take no less time: the exchange costs more than the division saves."
        made.append(Finding(text=text, n=len(timed)))
    return made


def _tables(repeats: Sequence[Repeat], points: Points) -> tuple[Table, ...]:
    """Three tables, each narrow enough for a terminal."""
    gains, times, ends = [], [], []
    for (strategy, workers), several in points.items():
        ratios = speed_ups(_timed(repeats), _timed(several))
        speed_up = spread(ratios).mean if ratios else None
        e = spread([karp_flatt(ratio, workers) for ratio in ratios]).mean if ratios and workers > 1 else None
        epoch_s = _of(several, lambda repeat: repeat.epoch_s)[0]
        efficiency = None if speed_up is None else speed_up / workers
        gains.append((workers, strategy, epoch_s, speed_up, efficiency, e, _mark(several)))
        first, images, exposed = (
            _of(several, value)[0]
            for value in (
                lambda repeat: repeat.first_epoch_s,
                lambda repeat: repeat.images_per_s,
                lambda repeat: repeat.exposed * 100,
            )
        )
        times.append((workers, strategy, *_of(several, lambda repeat: repeat.train_s), first, images, exposed))
        loss = _of(several, lambda repeat: repeat.loss)[0]
        ends.append((workers, strategy, loss, *_of(several, lambda repeat: repeat.accuracy * 100), len(several)))
    point = ("workers", "strategy")
    columns = ("epoch (s)", "speed-up", "efficiency", "Karp-Flatt", "")
    note = "Means. Karp-Flatt: the serial fraction that the speed-up shows (Karp and Flatt 1990)."
    interval = "From and to: the ends of the 95 % interval."
    spent = ("training (s)", "from", "to", "first (s)", "images/s", "exposed (%)")
    reached = ("test loss", "accuracy (%)", "from", "to", "n")
    return (
        Table(name="scaling", title="Gain by workers", columns=(*point, *columns), rows=tuple(gains), note=note),
        Table(name="times", title="Training time", columns=(*point, *spent), rows=tuple(times), note=interval),
        Table(name="ends", title="Test loss and accuracy", columns=(*point, *reached), rows=tuple(ends), note=interval),
    )


def _mark(several: Sequence[Repeat]) -> str:
    cut = sum(repeat.resumed for repeat in several)
    marks = ["oversubscribed"] * any(repeat.oversubscribed for repeat in several) + [f"{cut} resumed"] * bool(cut)
    return ", ".join(marks)


def _figures(repeats: Sequence[Repeat], points: Points) -> tuple[Figure, ...]:
    workers = sorted({count for _, count in points})
    ideal = Layer(
        mark="line", data={"x": workers, "y": workers, "strategy": ["ideal"] * len(workers)}, series="strategy"
    )

    def ratios(several: Sequence[Repeat]) -> list[float]:
        return speed_ups(_timed(repeats), _timed(several))

    def efficiencies(several: Sequence[Repeat]) -> list[float]:
        return [ratio / several[0].workers for ratio in ratios(several)]

    def each(value: Callable[[Repeat], float]) -> Callable[[Sequence[Repeat]], list[float]]:
        return lambda several: [value(repeat) for repeat in several]

    return (
        _figure("time", "Training time", "training (s)", points, each(lambda repeat: repeat.train_s)),
        _figure("speed-up", "Speed-up over one worker", "speed-up", points, ratios, ideal),
        _figure("efficiency", "Efficiency", "efficiency", points, efficiencies),
        _figure("throughput", "Throughput", "images/s", points, each(lambda repeat: repeat.images_per_s)),
        _figure(
            "exposed", "Exposed communication", "share of time (%)", points, each(lambda repeat: repeat.exposed * 100)
        ),
        _figure("loss", "Test loss", "test loss", points, each(lambda repeat: repeat.loss)),
        _figure("accuracy", "Test accuracy", "accuracy (%)", points, each(lambda repeat: repeat.accuracy * 100)),
    )


def _figure(
    name: str,
    title: str,
    unit: str,
    points: Points,
    values: Callable[[Sequence[Repeat]], list[float]],
    *more: Layer,
) -> Figure:
    columns: dict[str, list[Cell]] = {"x": [], "y": [], "low": [], "high": [], "strategy": []}
    for (strategy, workers), several in points.items():
        if numbers := values(several):
            value = spread(numbers)
            named = strategy + (" (oversubscribed)" if several[0].oversubscribed else "")
            row = (workers, value.mean, *_ends(value), named)
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    layer = Layer(mark="points", data=columns, low="low", high="high", series="strategy")
    caption = "Whiskers: 95 % intervals over repetitions."
    return Figure(
        name=name, title=title, x=Axis(title="workers"), y=Axis(title=unit), layers=(layer, *more), caption=caption
    )


def _curves(points: Points) -> tuple[Figure, ...]:
    """Accuracy and loss over epochs, means over the repetitions."""
    columns: dict[str, list[Cell]] = {"epoch": [], "accuracy": [], "loss": [], "point": []}
    for (strategy, workers), several in points.items():
        named = "1 worker" if workers == 1 else f"{workers} workers, {strategy}"
        for rows in zip(*(repeat.curve for repeat in several), strict=False):
            accuracy, loss = (sum(row[place] for row in rows) / len(rows) for place in (1, 2))
            for column, cell in zip(columns.values(), (rows[0][0], accuracy * 100, loss, named), strict=True):
                column.append(cell)
    return tuple(
        Figure(
            name=f"{name}-curve",
            title=f"Test {name} while training",
            x=Axis(title="epoch"),
            y=Axis(title=title),
            layers=(Layer(mark="line", data=columns, x="epoch", y=name, series="point"),),
            caption="Means over repetitions.",
        )
        for name, title in (("accuracy", "accuracy (%)"), ("loss", "test loss"))
    )


def _next_to_published(points: Points, repeats: Sequence[Repeat]) -> Section:
    """Published figures next to the measured ones."""
    rows = []
    for (strategy, workers), several in points.items():
        if workers in PUBLISHED:
            seconds, accuracy = PUBLISHED[workers]
            ratios = speed_ups(_timed(repeats), _timed(several))
            measured = spread(ratios).mean if ratios else None
            reached = spread([repeat.accuracy for repeat in several]).mean * 100
            rows.append((workers, strategy, PUBLISHED[1][0] / seconds, measured, accuracy * 100, reached))
    columns = ("workers", "strategy", "published speed-up", "measured", "published accuracy (%)", "measured (%)")
    note = "Published: 610, 324, 156 s on 1, 2, 4 GPUs, 40 epochs of all 60,000 images, one run each."
    table = Table(
        name="document", title="The MNIST CNN on 1, 2 and 4 GPUs", columns=columns, rows=tuple(rows), note=note
    )
    return Section(title="Next to the published experiment", parts=(table,))


def _timed(repeats: Sequence[Repeat]) -> list[Repeat]:
    return [repeat for repeat in repeats if repeat.timed]


def _of(several: Sequence[Repeat], value: Callable[[Repeat], float]) -> tuple[Cell, Cell, Cell]:
    mean = spread([value(repeat) for repeat in several])
    return mean.mean, *_ends(mean)


def _ends(value: Spread) -> tuple[Cell, Cell]:
    return (None, None) if math.isnan(value.low) else (value.low, value.high)

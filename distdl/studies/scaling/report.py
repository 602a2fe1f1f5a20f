"""Sentences, tables and figures of the study `scaling`."""

import math
from collections.abc import Callable, Sequence

from distdl.core.format import Cell
from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.report.sentences import NOT_SIGNIFICANT
from distdl.studies.scaling.results import Repeat, amdahl, karp_flatt, speed_ups

PUBLISHED = {1: (610.0, 0.9912), 2: (324.0, 0.99), 4: (156.0, 0.9891)}
"""The MNIST CNN on 1, 2 and 4 GPUs: seconds for 40 epochs, and test accuracy."""
Points = dict[tuple[str, int], list[Repeat]]


def sections(repeats: Sequence[Repeat], *, mode: str, epochs: int, is_published: bool) -> list[Section]:
    """Return the sections of the page.

    Args:
        repeats: results of the completed trainings.
        is_published: whether they have the settings of the published experiment.
    """
    strategies = sorted({repeat.strategy for repeat in repeats if repeat.workers > 1})
    points: Points = {}
    for repeat in sorted(repeats, key=lambda repeat: (repeat.workers, repeat.strategy, repeat.seed)):
        points.setdefault((repeat.strategy, repeat.workers), []).append(repeat)
    parts = [*_times(repeats, points), *_accuracy(points), *_laws(repeats, strategies)]
    listed = [
        Section(title="Scaling", text=_text(repeats, mode, epochs), parts=(*parts, *_tables(repeats, points))),
        Section(title="By number of workers", parts=_figures(repeats, points)),
        Section(title="During training", parts=_curves(points)),
    ]
    return [*listed, _compared_with_published(points, repeats)] if is_published else listed


def _text(repeats: Sequence[Repeat], mode: str, epochs: int) -> str:
    batch = "the batch size per worker is constant" if mode == "weak" else "the global batch size is constant"
    text = f"{epochs} epochs over the same images, {mode} scaling: {batch}. Epoch times exclude the first epoch; each "
    text += "repetition is compared with the single-worker training of the same round."
    if any(repeat.oversubscribed for repeat in repeats):
        text += " Trainings whose workers share cores (oversubscribed) are excluded from speed-ups and fits."
    if any(repeat.resumed for repeat in repeats):
        text += " Trainings that were interrupted and resumed are excluded from times."
    return text


def _times(repeats: Sequence[Repeat], points: Points) -> list[Finding]:
    findings = []
    for (strategy, workers), same_point in points.items():
        ratios = speed_ups(_timed(repeats), _timed(same_point))
        if workers == 1 or not ratios:
            continue
        speed_up, efficiency = spread(ratios), spread([ratio / workers for ratio in ratios])
        exposed = spread([repeat.exposed for repeat in same_point])
        text = f"{strategy}: {workers} workers have a speed-up of {speed_up} over one worker, an efficiency of "
        text += f"{efficiency}; {exposed.mean:.1%} of the time is exposed communication."
        holds = speed_up.low > 1 if speed_up.n > 1 else None
        findings.append(Finding(text=text, n=speed_up.n, holds=holds))
    return findings


def _accuracy(points: Points) -> list[Finding]:
    """Compare accuracy with that of one worker, by seed."""
    of_one = {repeat.seed: repeat.accuracy for (_, workers), same in points.items() if workers == 1 for repeat in same}
    findings = []
    for (strategy, workers), same_point in points.items():
        differences = [repeat.accuracy - of_one[repeat.seed] for repeat in same_point if repeat.seed in of_one]
        if workers == 1 or not differences:
            continue
        change, reached = spread(differences), spread([repeat.accuracy for repeat in same_point])
        verdict = "which is significant" if change.excludes_zero else NOT_SIGNIFICANT
        text = f"{strategy}: {workers} workers reach {reached.mean:.2%}, {abs(change.mean) * 100:.2f} points "
        text += f"{'above' if change.mean > 0 else 'below'} one worker"
        text += f" ({change.low * 100:+.2f} to {change.high * 100:+.2f})" if change.n > 1 else ""
        text += f", {verdict}." if change.n > 1 else "."
        findings.append(Finding(text=text, n=change.n))
    return findings


def _laws(repeats: Sequence[Repeat], strategies: Sequence[str]) -> list[Finding]:
    findings = []
    for strategy in strategies:
        timed = [repeat for repeat in _timed(repeats) if repeat.workers == 1 or repeat.strategy == strategy]
        law = amdahl(timed)
        if not law:
            continue
        share = law.serial_s / (law.serial_s + law.parallel_s)
        text = f"{strategy}: an epoch takes {law.serial_s:.3g} s + {law.parallel_s:.3g} s / workers (Amdahl's law), a "
        text += f"serial fraction of {share:.1%}; "
        checked = f"the mean error of the fit is {law.error:.1%}."
        text += "two numbers of workers are too few to check the fit." if law.points == 2 else checked
        if law.parallel_s < 1e-6 * law.serial_s:
            text = f"{strategy}: more workers do not shorten an epoch: communication costs more than they save."
        findings.append(Finding(text=text, n=len(timed)))
    return findings


def _tables(repeats: Sequence[Repeat], points: Points) -> tuple[Table, ...]:
    """Return three tables, each narrow enough for a terminal."""
    gains, times, ends = [], [], []
    for (strategy, workers), same_point in points.items():
        ratios = speed_ups(_timed(repeats), _timed(same_point))
        speed_up = spread(ratios).mean if ratios else None
        e = spread([karp_flatt(ratio, workers) for ratio in ratios]).mean if ratios and workers > 1 else None
        epoch_s = _of(same_point, lambda repeat: repeat.epoch_s)[0]
        efficiency = None if speed_up is None else speed_up / workers
        gains.append((workers, strategy, epoch_s, speed_up, efficiency, e, _mark(same_point)))
        first, images, exposed = (
            _of(same_point, value)[0]
            for value in (
                lambda repeat: repeat.first_epoch_s,
                lambda repeat: repeat.images_per_s,
                lambda repeat: repeat.exposed * 100,
            )
        )
        times.append((workers, strategy, *_of(same_point, lambda repeat: repeat.train_s), first, images, exposed))
        loss = _of(same_point, lambda repeat: repeat.loss)[0]
        ends.append((workers, strategy, loss, *_of(same_point, lambda repeat: repeat.accuracy * 100), len(same_point)))
    point = ("workers", "strategy")
    columns = ("epoch (s)", "speed-up", "efficiency", "Karp-Flatt", "")
    note = "Means. Karp-Flatt: experimentally determined serial fraction (Karp and Flatt 1990)."
    interval = "from and to: 95 % confidence interval."
    exposure = f"{interval} exposed: communication that does not overlap with computation."
    spent = ("training (s)", "from", "to", "first epoch (s)", "images/s", "exposed (%)")
    reached = ("test loss", "accuracy (%)", "from", "to", "n")
    return (
        Table(name="scaling", title="Speed-up by workers", columns=(*point, *columns), rows=tuple(gains), note=note),
        Table(name="times", title="Training time", columns=(*point, *spent), rows=tuple(times), note=exposure),
        Table(name="ends", title="Test loss and accuracy", columns=(*point, *reached), rows=tuple(ends), note=interval),
    )


def _mark(same_point: Sequence[Repeat]) -> str:
    cut = sum(repeat.resumed for repeat in same_point)
    marks = ["oversubscribed"] * any(repeat.oversubscribed for repeat in same_point) + [f"{cut} resumed"] * bool(cut)
    return ", ".join(marks)


def _figures(repeats: Sequence[Repeat], points: Points) -> tuple[Figure, ...]:
    workers = sorted({count for _, count in points})
    ideal = PlotLayer(
        mark="line", data={"x": workers, "y": workers, "strategy": ["ideal"] * len(workers)}, series="strategy"
    )

    def ratios(same_point: Sequence[Repeat]) -> list[float]:
        return speed_ups(_timed(repeats), _timed(same_point))

    def efficiencies(same_point: Sequence[Repeat]) -> list[float]:
        return [ratio / same_point[0].workers for ratio in ratios(same_point)]

    def each(value: Callable[[Repeat], float]) -> Callable[[Sequence[Repeat]], list[float]]:
        return lambda same_point: [value(repeat) for repeat in same_point]

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
    *more: PlotLayer,
) -> Figure:
    columns: dict[str, list[Cell]] = {"x": [], "y": [], "low": [], "high": [], "strategy": []}
    for (strategy, workers), same_point in points.items():
        if numbers := values(same_point):
            value = spread(numbers)
            named = strategy + (" (oversubscribed)" if same_point[0].oversubscribed else "")
            row = (workers, value.mean, *_ends(value), named)
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    layer = PlotLayer(mark="points", data=columns, low="low", high="high", series="strategy")
    caption = "Error bars: 95 % confidence intervals over repetitions."
    return Figure(
        name=name, title=title, x=Axis(title="workers"), y=Axis(title=unit), layers=(layer, *more), caption=caption
    )


def _curves(points: Points) -> tuple[Figure, ...]:
    """Accuracy and loss over epochs, means over the repetitions."""
    columns: dict[str, list[Cell]] = {"epoch": [], "accuracy": [], "loss": [], "point": []}
    for (strategy, workers), same_point in points.items():
        named = "1 worker" if workers == 1 else f"{workers} workers, {strategy}"
        for rows in zip(*(repeat.curve for repeat in same_point), strict=False):
            accuracy, loss = (sum(row[place] for row in rows) / len(rows) for place in (1, 2))
            for column, cell in zip(columns.values(), (rows[0][0], accuracy * 100, loss, named), strict=True):
                column.append(cell)
    return tuple(
        Figure(
            name=f"{name}-curve",
            title=f"Test {name} during training",
            x=Axis(title="epoch"),
            y=Axis(title=title),
            layers=(PlotLayer(mark="line", data=columns, x="epoch", y=name, series="point"),),
            caption="Means over repetitions.",
        )
        for name, title in (("accuracy", "accuracy (%)"), ("loss", "test loss"))
    )


def _compared_with_published(points: Points, repeats: Sequence[Repeat]) -> Section:
    """Comparison of the published and the measured values."""
    rows = []
    for (strategy, workers), same_point in points.items():
        if workers in PUBLISHED:
            seconds, accuracy = PUBLISHED[workers]
            ratios = speed_ups(_timed(repeats), _timed(same_point))
            measured = spread(ratios).mean if ratios else None
            reached = spread([repeat.accuracy for repeat in same_point]).mean * 100
            rows.append((workers, strategy, PUBLISHED[1][0] / seconds, measured, accuracy * 100, reached))
    columns = ("workers", "strategy", "published speed-up", "measured", "published accuracy (%)", "measured (%)")
    note = "Published: 610 s, 324 s and 156 s on 1, 2 and 4 GPUs for 40 epochs of all 60,000 images, one run each."
    table = Table(
        name="document", title="The MNIST CNN on 1, 2 and 4 GPUs", columns=columns, rows=tuple(rows), note=note
    )
    return Section(title="Comparison with the published experiment", parts=(table,))


def _timed(repeats: Sequence[Repeat]) -> list[Repeat]:
    return [repeat for repeat in repeats if repeat.timed]


def _of(same_point: Sequence[Repeat], value: Callable[[Repeat], float]) -> tuple[Cell, Cell, Cell]:
    mean = spread([value(repeat) for repeat in same_point])
    return mean.mean, *_ends(mean)


def _ends(value: Spread) -> tuple[Cell, Cell]:
    return (None, None) if math.isnan(value.low) else (value.low, value.high)

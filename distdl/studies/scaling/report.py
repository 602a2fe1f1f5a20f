"""Sentences, tables and figures of the study `scaling`."""

import math
from collections.abc import Callable, Sequence

from distdl.core.format import Cell
from distdl.core.statistics import Spread, spread
from distdl.report.content import Axis, Figure, Finding, Layer, Section, Table
from distdl.studies.scaling.results import Repeat, amdahl, karp_flatt, speed_ups

DOCUMENT = {1: (610.0, 0.9912), 2: (324.0, 0.99), 4: (156.0, 0.9891)}
"""Document 004, exercise 4: GPUs, seconds of 40 epochs, test accuracy."""
Points = dict[tuple[str, int], list[Repeat]]


def sections(found: Sequence[Repeat], *, mode: str, epochs: int, document: bool) -> list[Section]:
    """What the repeats show; `document` where they are those of document 004, if fewer."""
    strategies = sorted({repeat.strategy for repeat in found if repeat.workers > 1})
    points: Points = {}
    for repeat in sorted(found, key=lambda one: (one.workers, one.strategy, one.seed)):
        points.setdefault((repeat.strategy, repeat.workers), []).append(repeat)
    parts = [*_times(found, points), *_accuracy(points), *_laws(found, strategies)]
    made = [
        Section(title="Scaling", text=_text(found, mode, epochs), parts=(*parts, *_tables(found, points))),
        Section(title="By number of workers", parts=_figures(found, points)),
        Section(title="While they train", parts=_curves(points)),
    ]
    return [*made, _beside(points, found)] if document else made


def _text(found: Sequence[Repeat], mode: str, epochs: int) -> str:
    batch = "each worker's batch stays the same" if mode == "weak" else "the batch of all workers stays the same"
    text = f"{epochs} epochs of the same images, {mode} scaling: {batch}. Times are of epochs after the first"
    text += ", each repetition compared with one worker's of the same round."
    if any(repeat.oversubscribed for repeat in found):
        text += " Workers that share cores (oversubscribed) are shown, and left out of speed-ups and fits."
    if any(repeat.resumed for repeat in found):
        text += " Trainings that were cut and resumed are left out of times."
    return text


def _times(found: Sequence[Repeat], points: Points) -> list[Finding]:
    made = []
    for (strategy, workers), several in points.items():
        ratios = speed_ups(_timed(found), _timed(several))
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
    """Accuracy against one worker's, by seed."""
    alone = {repeat.seed: repeat.accuracy for (_, workers), one in points.items() if workers == 1 for repeat in one}
    made = []
    for (strategy, workers), several in points.items():
        differences = [repeat.accuracy - alone[repeat.seed] for repeat in several if repeat.seed in alone]
        if workers == 1 or not differences:
            continue
        change, reached = spread(differences), spread([repeat.accuracy for repeat in several])
        verdict = "more" if change.low > 0 else "less" if change.high < 0 else "which is no difference that can be told"
        text = f"{strategy}: {workers} workers reach {reached.mean:.2%}, {abs(change.mean) * 100:.2f} points "
        text += f"{'above' if change.mean > 0 else 'below'} one worker"
        text += f" ({change.low * 100:+.2f} to {change.high * 100:+.2f})" if change.n > 1 else ""
        text += f", {verdict}." if change.n > 1 else "."
        made.append(Finding(text=text, n=change.n))
    return made


def _laws(found: Sequence[Repeat], strategies: Sequence[str]) -> list[Finding]:
    made = []
    for strategy in strategies:
        timed = [one for one in found if one.timed and (one.workers == 1 or one.strategy == strategy)]
        law = amdahl(timed)
        if not law:
            continue
        share = law.serial_s / (law.serial_s + law.parallel_s)
        text = f"{strategy}: an epoch takes {law.serial_s:.3g} s + {law.parallel_s:.3g} s / workers (Amdahl), so that "
        text += f"{share:.1%} of it is not divided; "
        text += "two numbers of workers leave nothing to check it by." if law.points == 2 else f"{law.error:.1%} off."
        if law.parallel_s < 1e-6 * law.serial_s:
            text = f"{strategy}: more workers take no less time: what they exchange costs more than dividing gains."
        made.append(Finding(text=text, n=len(timed)))
    return made


def _tables(found: Sequence[Repeat], points: Points) -> tuple[Table, ...]:
    """Three, each narrow enough for a terminal."""
    gains, times, ends = [], [], []
    for (strategy, workers), several in points.items():
        ratios = speed_ups(_timed(found), _timed(several))
        speed_up = spread(ratios).mean if ratios else None
        e = spread([karp_flatt(ratio, workers) for ratio in ratios]).mean if ratios and workers > 1 else None
        epoch_s = _of(several, lambda one: one.epoch_s)[0]
        efficiency = None if speed_up is None else speed_up / workers
        gains.append((workers, strategy, epoch_s, speed_up, efficiency, e, _mark(several)))
        first, images, exposed = (
            _of(several, value)[0]
            for value in (
                lambda one: one.first_epoch_s,
                lambda one: one.images_per_s,
                lambda one: one.exposed * 100,
            )
        )
        times.append((workers, strategy, *_of(several, lambda one: one.train_s), first, images, exposed))
        loss = _of(several, lambda one: one.loss)[0]
        ends.append((workers, strategy, loss, *_of(several, lambda one: one.accuracy * 100), len(several)))
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


def _figures(found: Sequence[Repeat], points: Points) -> tuple[Figure, ...]:
    workers = sorted({count for _, count in points})
    ideal = Layer(
        mark="line", data={"x": workers, "y": workers, "strategy": ["ideal"] * len(workers)}, series="strategy"
    )

    def ratios(several: Sequence[Repeat]) -> list[float]:
        return speed_ups(_timed(found), _timed(several))

    def efficiencies(several: Sequence[Repeat]) -> list[float]:
        return [ratio / several[0].workers for ratio in ratios(several)]

    def each(value: Callable[[Repeat], float]) -> Callable[[Sequence[Repeat]], list[float]]:
        return lambda several: [value(repeat) for repeat in several]

    return (
        _figure("time", "Training time", "training (s)", points, each(lambda one: one.train_s)),
        _figure("speed-up", "Speed-up over one worker", "speed-up", points, ratios, ideal),
        _figure("efficiency", "Efficiency", "efficiency", points, efficiencies),
        _figure("throughput", "Throughput", "images/s", points, each(lambda one: one.images_per_s)),
        _figure("exposed", "Exposed communication", "share of time (%)", points, each(lambda one: one.exposed * 100)),
        _figure("loss", "Test loss", "test loss", points, each(lambda one: one.loss)),
        _figure("accuracy", "Test accuracy", "accuracy (%)", points, each(lambda one: one.accuracy * 100)),
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
            found = spread(numbers)
            named = strategy + (" (oversubscribed)" if several[0].oversubscribed else "")
            row = (workers, found.mean, *_ends(found), named)
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    layer = Layer(mark="points", data=columns, low="low", high="high", series="strategy")
    caption = "Whiskers: 95 % intervals over repetitions."
    return Figure(
        name=name, title=title, x=Axis(title="workers"), y=Axis(title=unit), layers=(layer, *more), caption=caption
    )


def _curves(points: Points) -> tuple[Figure, ...]:
    """Accuracy and loss over epochs, the mean of the repetitions."""
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


def _beside(points: Points, found: Sequence[Repeat]) -> Section:
    """The document's own figures beside these."""
    rows = []
    for (strategy, workers), several in points.items():
        if workers in DOCUMENT:
            seconds, accuracy = DOCUMENT[workers]
            ratios = speed_ups(_timed(found), _timed(several))
            mine = spread(ratios).mean if ratios else None
            reached = spread([repeat.accuracy for repeat in several]).mean * 100
            rows.append((workers, strategy, DOCUMENT[1][0] / seconds, mine, accuracy * 100, reached))
    columns = ("workers", "strategy", "document's speed-up", "here", "document's accuracy (%)", "here (%)")
    note = "The document: 610, 324, 156 s on 1, 2, 4 GPUs, 40 epochs of all 60,000 images, one run each."
    table = Table(name="document", title="Document 004, exercise 4", columns=columns, rows=tuple(rows), note=note)
    return Section(title="Beside the document", parts=(table,))


def _timed(found: Sequence[Repeat]) -> list[Repeat]:
    return [repeat for repeat in found if repeat.timed]


def _of(several: Sequence[Repeat], value: Callable[[Repeat], float]) -> tuple[Cell, Cell, Cell]:
    found = spread([value(repeat) for repeat in several])
    return found.mean, *_ends(found)


def _ends(found: Spread) -> tuple[Cell, Cell]:
    return (None, None) if math.isnan(found.low) else (found.low, found.high)

"""Sentences, tables and figures of the study `optimus`."""

from collections.abc import Sequence

import numpy as np

from distdl.core.errors import UserError
from distdl.core.format import Cell
from distdl.perf.learning.loss_fit import fit_loss
from distdl.report.content import Axis, Columns, Figure, Finding, PlotLayer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.optimus import logs, regression
from distdl.studies.optimus.logs import Curve
from distdl.studies.optimus.regression import Fitted, Regression
from distdl.studies.optimus.scaling import Scale
from distdl.studies.optimus.times import times
from distdl.studies.optimus.trials import OptimusSettings


def sections(settings: OptimusSettings, scale: Scale, outcomes: Sequence[Outcome]) -> list[Section]:
    """Curves, regression, the predicted network, and time and cost, as far as trials are completed."""
    curves = logs.curves(outcomes)
    fitted, faults = _fit([curve for curve in curves if curve.network != settings.predicted])
    goal, more = _fit([curve for curve in curves if curve.network == settings.predicted])
    sections_ = [_curves(settings, fitted, goal, [*faults, *more])]
    regressions = regression.regress(fitted) if fitted else []
    if regressions:
        sections_.append(_regression(regressions, fitted))
        section, epochs = _predicted(settings, scale, regressions, fitted, goal)
        sections_.append(section)
    else:
        epochs = None
        text = f"{len(fitted)} curves are too few for a regression on depth, family and device."
        sections_.append(Section(title="Regression", text=text))
    return [*sections_, *times(settings, scale, outcomes, epochs)]


def _fit(curves: Sequence[Curve]) -> tuple[list[Fitted], list[str]]:
    fitted, faults = [], []
    for curve in curves:
        try:
            fitted.append(Fitted(curve=curve, fit=fit_loss(curve.steps, curve.losses, drops=curve.drops)))
        except UserError as error:
            faults.append(f"{curve.name}: {error}")
    return fitted, faults


def _curves(settings: OptimusSettings, fitted: list[Fitted], goal: list[Fitted], faults: list[str]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    by_device: dict[str, Columns] = {}
    for each in [*fitted, *goal]:
        curve, phase = each.curve, each.fit.optimus
        ends = [end for pair in phase.intervals for end in pair]
        cells = [
            cell
            for b, low, high in zip(phase.coefficients, ends[::2], ends[1::2], strict=True)
            for cell in (b, low, high)
        ]
        best = max((accuracy for _, accuracy in curve.accuracy), default=None)
        rows.append(
            (
                curve.network,
                curve.device,
                curve.seed,
                *map(float, cells),
                phase.held_out_mape * 100,
                each.fit.held_out_mape * 100,
                len(each.fit.phases),
                None if best is None else best * 100,
                "imported" if curve.imported else "trained here",
            )
        )
        columns = by_device.setdefault(curve.device, {"step": [], "loss": [], "network": []})
        named = curve.network + (f", seed {curve.seed}" if settings.seeds > 1 else "")
        for step, loss in zip(*regression.binned(curve), strict=True):
            _add(columns, step=float(step), loss=float(loss), network=named)
    names = ("network", "device", "seed", "b0", "b0 from", "b0 to", "b1", "b1 from", "b1 to", "b2", "b2 from", "b2 to")
    names += ("held-out error, one hyperbola (%)", "held-out error, phases (%)")
    names += ("phases", "best accuracy (%)", "source")
    table = Table(
        name="loss-models",
        title="Loss models, 1 / (b0 k + b1) + b2 after k steps",
        columns=names,
        rows=tuple(rows),
        note="from and to: 95 % confidence interval. Held-out error: mean error on losses held out from the fit of one "
        "hyperbola to the whole curve, and of one curve to each phase between drops of the learning rate.",
    )
    figures = [
        Figure(
            name=f"losses-{device.replace(':', '-')}",
            title=f"Training loss on {device}",
            x=Axis(title="step"),
            y=Axis(title="training loss", scale="log"),
            layers=(PlotLayer(mark="line", data=columns, x="step", y="loss", series="network"),),
            caption="Means over consecutive batches.",
        )
        for device, columns in by_device.items()
    ]
    text = f"{len(fitted)} curves to fit and {len(goal)} of {settings.predicted} to validate the prediction; "
    text += f"batch size {settings.batch}, {settings.epochs} epochs"
    text += f" of {settings.images:,} images" if settings.images else ""
    text += f" at {settings.image_size} x {settings.image_size} pixels" if settings.image_size else ""
    parts = [Finding(text=f"Excluded: {fault}.", n=1, holds=False) for fault in faults]
    return Section(title="Loss curves", text=text + ".", parts=(*parts, table, *figures))


def _regression(regressions: list[Regression], fitted: list[Fitted]) -> Section:
    kinds = sorted({each.curve.device for each in fitted})
    parts: list[Finding | Table] = []
    tested = [each for each in regressions if np.isfinite(each.device_p)]
    if tested:
        least = min(tested, key=lambda each: each.device_p)
        # Three coefficients are tested: Bonferroni divides the 5 % among them.
        same = least.device_p > 0.05 / len(tested)
        text = f"Convergence on {', '.join(kinds)} {'does not differ' if same else 'differs'} significantly over "
        text += f"{len(fitted)} curves: the smallest p-value of the device is {least.device_p:.2g}, for {least.name} "
        text += f"(F test; significant below {0.05 / len(tested):.3f})."
        parts.append(Finding(text=text, n=len(fitted), holds=same))
    else:
        text = f"All curves are from {kinds[0]}: an effect of the device cannot be tested. Add a device or its logs."
        parts.append(Finding(text=text, n=len(fitted)))
    rows = [
        (
            each.name,
            "logarithm" if each.log else "value",
            *(float(weight) for weight in each.weights),
            each.r_squared,
            each.degrees_of_freedom,
            None if np.isnan(each.device_p) else each.device_p,
        )
        for each in regressions
    ]
    columns = ("coefficient", "scale", *regressions[0].terms, "R squared", "degrees of freedom", "p of device")
    return Section(
        title="Regression on depth and device",
        text="Each coefficient is a linear function of log depth, the device, and the network's family if there are "
        "two. b0 and b1 are on a logarithmic scale unless one of their values is close to zero.",
        parts=(*parts, Table(name="regression", title="Regression", columns=columns, rows=tuple(rows))),
    )


def _predicted(
    settings: OptimusSettings, scale: Scale, regressions: list[Regression], fitted: list[Fitted], goal: list[Fitted]
) -> tuple[Section, tuple[float, float, float] | None]:
    """Return the section with the predicted curve and epochs to the target, and the epochs over all devices."""
    kinds = sorted({each.curve.device for each in fitted})
    losses = regression.target_losses(fitted, settings.target)
    target = float(np.median(losses)) if losses else None
    parts: list[Finding | Table | Figure] = []
    rows, predictions = [], []
    for kind in kinds:
        draws = regression.predict(regressions, fitted, settings.predicted, kind)
        measured = [each for each in goal if each.curve.device == kind]
        last = max(each.curve.steps[-1] for each in fitted)
        parts.append(_curve_figure(settings, kind, draws, measured, last))
        parts += [_error(each, draws) for each in measured]
        if target is not None:
            # The loss at which the target is reached differs by network: each draw takes that of one of them.
            each = np.append(target, np.random.default_rng(1).choice(losses, len(draws) - 1))
            epochs = regression.steps_to(draws, each) / scale.steps_per_epoch
            low, high = np.quantile(epochs[1:], [0.025, 0.975], method="inverted_cdf")
            predictions.append((float(epochs[0]), float(low), float(high), epochs))
            reached_steps = [regression.reached(each.curve, settings.target) for each in measured]
            measured_epochs = [step / scale.steps_per_epoch for step in reached_steps if step is not None]
            rows.append(
                (
                    kind,
                    *(_finite(value) for value in (epochs[0], low, high)),
                    measured_epochs[0] if measured_epochs else None,
                )
            )
    goal_text = f"{settings.target:.0%} accuracy"
    if target is None:
        text = f"No curve reached {goal_text}: the corresponding loss, and therefore the time to it, is unknown."
        parts.append(Finding(text=text, n=len(fitted), holds=False))
        return Section(title=f"{settings.predicted}, predicted", parts=tuple(parts)), None
    text = f"{goal_text} was reached at a training loss of {target:.3g} (median; {min(losses):.3g} to "
    text += f"{max(losses):.3g} over {len(losses)} of {len(fitted)} curves)."
    parts.insert(0, Finding(text=text, n=len(losses)))
    parts.append(
        Table(
            name="epochs",
            title=f"Epochs of {settings.predicted} to {goal_text}",
            columns=("device", "predicted", "from", "to", "measured"),
            rows=tuple(rows),
            note="Empty: never reached. measured: interpolated linearly between evaluations.",
        )
    )
    parts.append(_epochs_finding(settings, predictions, rows))
    all_epochs = np.concatenate([epochs[1:] for *_, epochs in predictions])
    middle = float(np.median([epochs[0] for *_, epochs in predictions]))
    low, high = (float(v) for v in np.quantile(all_epochs, [0.025, 0.975], method="inverted_cdf"))
    section = Section(title=f"{settings.predicted}, predicted", parts=tuple(parts))
    return section, (middle, max(min(low, middle), 1e-3), max(high, middle)) if np.isfinite(middle) else None


def _epochs_finding(settings: OptimusSettings, predictions: list[tuple], rows: list[tuple]) -> Finding:
    intervals = [
        f"{row[0]}: " + (f"{row[1]:.3g} ({_open(row[2])} to {_open(row[3])})" if row[1] else "never") for row in rows
    ]
    measured = [(row[4], row[2], row[3]) for row in rows if row[4] is not None]
    text = f"Epochs of {settings.predicted} to {settings.target:.0%}, predicted: {'; '.join(intervals)}."
    holds = None
    if measured:
        inside = [(low or 0) <= epochs <= (high if high is not None else np.inf) for epochs, low, high in measured]
        text += f" Measured: {', '.join(f'{epochs:.3g}' for epochs, *_ in measured)}, "
        text += f"{sum(inside)} of {len(inside)} within the interval."
        holds = all(inside)
    return Finding(text=text, n=len(measured) or len(predictions), holds=holds)


def _error(each: Fitted, draws: np.ndarray) -> Finding:
    steps, losses = regression.binned(each.curve)
    curves = regression.values(draws, steps)
    error = float(np.abs(curves[0] / losses - 1).mean())
    fit_error = float(np.abs(each.fit.optimus(steps) / losses - 1).mean())
    low, high = np.quantile(curves[1:], [0.025, 0.975], axis=0)
    inside = float(((losses >= low) & (losses <= high)).mean())
    text = (
        f"{each.curve.name}: the mean error of the predicted curve is {error:.1%}, that of a fit to the measured curve "
    )
    text += f"{fit_error:.1%}. {inside:.0%} of the measured losses are in the 95 % band of the prediction, which does "
    text += "not include the noise of single batches."
    return Finding(text=text, n=1)


def _curve_figure(
    settings: OptimusSettings, kind: str, draws: np.ndarray, measured: list[Fitted], last: float
) -> Figure:
    steps = np.linspace(1, last, 120)
    curves = regression.values(draws, steps)
    low, high = np.quantile(curves[1:], [0.025, 0.975], axis=0)
    lines: Columns = {"x": [], "y": [], "curve": []}
    for step, loss in zip(steps, curves[0], strict=True):
        _add(lines, x=float(step), y=float(loss), curve="predicted")
    for each in measured:
        for step, loss in zip(*regression.binned(each.curve), strict=True):
            named = "measured" + (f", seed {each.curve.seed}" if len(measured) > 1 else "")
            _add(lines, x=float(step), y=float(loss), curve=named)
    # With few networks the band may be so wide that the curves inside it are not visible.
    top = 2 * max(loss for loss in lines["y"] if isinstance(loss, float))
    cut = f", cut at {top:.3g}" if high.max() > top else ""
    band = {"x": steps.tolist(), "low": low.clip(max=top).tolist(), "high": high.clip(max=top).tolist()}
    return Figure(
        name=f"predicted-{kind.replace(':', '-')}",
        title=f"{settings.predicted} on {kind}",
        x=Axis(title="step"),
        y=Axis(title="training loss"),
        layers=(
            PlotLayer(mark="band", data=band, low="low", high="high"),
            PlotLayer(mark="line", data=lines, series="curve"),
        ),
        caption=f"Predicted from the other networks by the regression; band: 95 % prediction interval{cut}.",
    )


def _add(columns: Columns, **cells: Cell) -> None:
    for name, cell in cells.items():
        columns[name].append(cell)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _open(value: float | None) -> str:
    return "never" if value is None else f"{value:.3g}"

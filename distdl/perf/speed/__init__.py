"""Speed of training as a function of servers and workers, or of nodes and replicas, fitted to measured step times."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.speed import optimus
from distdl.perf.speed import pollux as goodput
from distdl.perf.speed.active_design import refuse
from distdl.perf.speed.fit import Form
from distdl.perf.speed.kriging import Kernel
from distdl.perf.speed.measurements import COLUMNS, Measurements
from distdl.perf.speed.model_selection import CANDIDATES, fit_auto, physical
from distdl.perf.speed.speed_fit import SpeedFit, fitted, leave_out

FormName = Literal["auto", "optimus-sync", "optimus-async", "goodput"]
PUBLISHED: dict[str, Form] = {form.name: form for form in (optimus.SYNC, optimus.ASYNC, goodput.GOODPUT)}


def fit_speed(
    data: Measurements,
    form: FormName = "auto",
    *,
    parameter_bytes: float | None = None,
    bytes_per_s: float | None = None,
) -> SpeedFit:
    """Fit a form of the step time to measurements, on relative error, with intervals and held-out error.

    Args:
        form: a published form, or `auto`.
        parameter_bytes, bytes_per_s: `auto` of a parameter server: size of the parameters and rate of a server's link,
            where both are known: a worker's share then is drawn to 2 S / B.
    Raises:
        Unidentifiable: the points cannot tell the form's terms apart; names points to add.
        UserError: the form is not one for these columns.
    """
    told = [f"{data.replayed} of {len(data)} measurements replayed recorded compute"] if data.replayed else []
    if form == "auto":
        found = fit_auto(data, physical(data, parameter_bytes, bytes_per_s))
        return replace(found, warnings=(*found.warnings, *told))
    chosen = PUBLISHED[form]
    if chosen.kind != data.kind:
        raise UserError(
            f"{form} is fitted to columns {', '.join(COLUMNS[chosen.kind])}; these data have "
            f"{', '.join(COLUMNS[data.kind])}: take --form {'goodput' if data.kind == 'replicas' else 'optimus-sync'} "
            "or auto"
        )
    warnings = told
    if form == "goodput":
        chosen = goodput.measured_terms(chosen, data)
        absent = [name for name in goodput.GOODPUT.exchange if name not in chosen.exchange]
        if absent:
            warnings.append(f"{', '.join(absent)} cannot be known: no measurement has such an exchange")
    refuse(chosen, data)
    return leave_out(fitted(form, chosen, data, {}, tuple(warnings)))


def from_dict(saved: Mapping[str, Any]) -> SpeedFit:
    """The fit that `SpeedFit.as_dict` saved.

    Raises:
        KeyError, TypeError, ValueError: it is not such a dictionary.
    """
    model = saved["model"]
    exchange = set(model["exchange"])
    form = next(
        form
        for form in (*PUBLISHED.values(), *CANDIDATES)
        if form.name == model["steps"] and exchange <= set(form.exchange) and list(form.compute) == model["compute"]
    )
    form = replace(
        form,
        exchange={name: term for name, term in form.exchange.items() if name in exchange},
        overlap=None if model["overlap_fitted"] else float(model["overlap"]),
    )
    data = Measurements(
        kind=form.kind,
        points=np.array(saved["points"], float),
        step_s=np.array(saved["step_s"], float),
        sync_s=None if saved["sync_s"] is None else np.array(saved["sync_s"], float),
    )
    return SpeedFit(
        requested=saved["form"],
        form=form,
        data=data,
        theta=np.array([saved["coefficients"][name] for name in form.names]),
        overlap=float(model["overlap"]),
        kernel=Kernel(**model["kernel"]),
        known={name: (value, weight) for name, (value, weight) in model["known"].items()},
        held_out=np.array(saved["held_out_residuals"]),
        warnings=tuple(saved["warnings"]),
    )

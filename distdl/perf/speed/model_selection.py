"""Form `auto`: select the form that predicts held-out placements best, and interpolate its residuals."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.speed import kriging, optimus
from distdl.perf.speed.active_design import refuse
from distdl.perf.speed.cross_validation import cross_validate, folds
from distdl.perf.speed.form import Form
from distdl.perf.speed.forms import families
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.solver import Known, Problem, identifiable
from distdl.perf.speed.speed_fit import SpeedFit, fit_form


def fit_auto(data: Measurements, known: Known) -> SpeedFit:
    """Fit the selected form to all data.

    Args:
        known: physical values by term, as from `physical`.
    Raises:
        Unidentifiable: no form is identifiable; the message names points to add.
    """
    applicable = families(data)
    forms = [form for family in applicable for form in family.forms]
    if data.kind == "replicas":
        forms = [form.measured_terms(data) for form in forms]
    usable = [form for form in forms if identifiable(form, data)]
    if not usable:
        refuse(applicable[0].design, data)
    best = select(usable, data, known)
    return replace(best, held_out=cross_validate(best, folds(data)).relative)


def select(forms: Sequence[Form], data: Measurements, known: Known) -> SpeedFit:
    """Fit all forms, and return the one with the smallest cross-validation error.

    If the default form of its family is not significantly worse, the default is returned: with few points, the ranking
    of forms is random. Forms of one family have the same name, and the default is the first.
    """
    fits = [_fit_interpolated(form, data, known if form.name == "auto-sync" else {}) for form in forms]
    errors = [cross_validate(fit, folds(data, most=10)) for fit in fits]
    best = int(np.argmin([validated.mape for validated in errors]))
    default = next(index for index, fit in enumerate(fits) if fit.form.name == fits[best].form.name)
    return fits[best] if errors[default].exceed(errors[best]) else fits[default]


def _fit_interpolated(form: Form, data: Measurements, known: Known) -> SpeedFit:
    """Fit a form with the kernel that has the highest evidence for its residuals."""
    plain = fit_form(form, data, requested="auto", known=known)
    problem = Problem.of(form, data, known)
    log_error = problem.log_s - np.log(problem.terms.time(plain.theta, plain.overlap))
    kernel = kriging.select_kernel(data.placements, log_error)
    return plain if kernel == kriging.NONE else fit_form(form, data, requested="auto", known=known, kernel=kernel)


def physical(data: Measurements, parameter_bytes: float | None, bytes_per_s: float | None) -> Known:
    """Return coefficients that are known in advance: for a parameter server, a worker's share of a link, 2 S / B.

    Raises:
        UserError: only one of the two is given, or one is not positive.
    """
    if (parameter_bytes is None) != (bytes_per_s is None):
        raise UserError("parameter_bytes and bytes_per_s must be given together")
    if parameter_bytes is None or bytes_per_s is None or data.kind != "servers":
        return {}
    if not (parameter_bytes > 0 and bytes_per_s > 0):
        raise UserError("parameter_bytes and bytes_per_s must be positive")
    # Assumed accurate to 20 %: protocols use part of the bandwidth, and the server's own work adds time.
    share = optimus.network_t2(parameter_bytes, bytes_per_s), kriging.PRIOR_NOISE / 0.2
    return {"shard": share, "link": share}

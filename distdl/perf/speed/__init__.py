"""Training speed as a function of servers and workers, or of nodes and replicas, fitted to measured step times."""

from dataclasses import replace

from distdl.core.errors import UserError
from distdl.perf.speed.active_design import refuse
from distdl.perf.speed.cross_validation import cross_validate, folds
from distdl.perf.speed.forms import RENAMED, published_form
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.model_selection import fit_auto, physical
from distdl.perf.speed.placements import COLUMNS
from distdl.perf.speed.speed_fit import SpeedFit, fit_form


def fit_speed(
    data: Measurements,
    form: str = "auto",
    *,
    parameter_bytes: float | None = None,
    bytes_per_s: float | None = None,
) -> SpeedFit:
    """Fit a form of the step time to measurements, with confidence intervals and cross-validation error.

    Args:
        form: a published form (`forms.PUBLISHED`), or `auto`.
        parameter_bytes, bytes_per_s: size S of the parameters and bandwidth B of a server's link, if both are known.
            With `auto` for a parameter server, the coefficient of a worker's share of the link is then regularized
            towards 2 S / B.
    Raises:
        Unidentifiable: the measurements do not determine the form's coefficients; the message names points to add.
        UserError: the form is not known, or is not for these columns.
    """
    warnings = [f"{data.replayed} of {len(data)} measurements replayed recorded compute"] if data.replayed else []
    if form in RENAMED:
        warnings.append(f'form "{form}" is now named "{RENAMED[form]}"')
        form = RENAMED[form]
    if form == "auto":
        fit = fit_auto(data, physical(data, parameter_bytes, bytes_per_s))
        return replace(fit, warnings=(*fit.warnings, *warnings))
    published = published_form(form)
    if published.kind != data.kind:
        raise UserError(
            f"{form} is fitted to columns {', '.join(COLUMNS[published.kind])}; these data have "
            f"{', '.join(COLUMNS[data.kind])}: use --form {'pollux' if data.kind == 'replicas' else 'optimus-sync'} "
            "or auto"
        )
    reduced = published.measured_terms(data) if data.kind == "replicas" else published
    if absent := [name for name in published.exchange if name not in reduced.exchange]:
        warnings.append(f"{', '.join(absent)} cannot be determined: no measurement has such an exchange")
    refuse(reduced, data)
    fit = fit_form(reduced, data, warnings=tuple(warnings))
    return replace(fit, held_out=cross_validate(fit, folds(data)).relative)

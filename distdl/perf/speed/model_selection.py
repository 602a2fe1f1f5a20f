"""`auto`: the form of the step time that is ours, chosen among candidates by held-out error.

It uses what the published forms leave out: the slowest worker holds ceil(M / w) samples, exchange may overlap with
compute, a worker's own link carries all parameters however many servers share them, servers have work that they
divide, bytes and bandwidth may be known, and what the terms leave over is not noise alone and can be interpolated
(`distdl.perf.speed.kriging`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from distdl.core.errors import UserError
from distdl.perf.speed import kriging, optimus
from distdl.perf.speed import pollux as goodput
from distdl.perf.speed.active_design import refuse
from distdl.perf.speed.fit import Form, Term, identifiable
from distdl.perf.speed.measurements import Kind, Measurements
from distdl.perf.speed.speed_fit import SpeedFit, fitted, leave_out

_COST: dict[str, Term] = {
    "sample": lambda x: np.ceil(x[:, 2] / x[:, 1]),
    "step": lambda x: np.ones(len(x)),
    "shard": lambda x: x[:, 1] / x[:, 0],
    "link": lambda x: np.maximum(x[:, 1] / x[:, 0], 1.0),
    "worker": lambda x: x[:, 1],
    "root_worker": lambda x: np.sqrt(x[:, 1]),
    "server": lambda x: x[:, 0],
    "split": lambda x: 1 / x[:, 0],
    "shared": lambda x: (x[:, 1] > 1).astype(float),
    "replica_sample": lambda x: x[:, 2],
    "local": lambda x: ((x[:, 0] == 1) & (x[:, 1] > 1)).astype(float),
    "between": lambda x: (x[:, 0] > 1).astype(float),
    "local_replica": lambda x: np.where(x[:, 0] == 1, np.maximum(x[:, 1] - 2, 0), 0.0),
    "between_replica": lambda x: np.where(x[:, 0] > 1, np.maximum(x[:, 1] - 2, 0), 0.0),
    "ring": lambda x: (x[:, 1] - 1) / x[:, 1],
    "between_ring": lambda x: np.where(x[:, 0] > 1, (x[:, 1] - 1) / x[:, 1], 0.0),
    "density": lambda x: np.where(x[:, 0] > 1, x[:, 1] / x[:, 0] - 1, 0.0),
}
"""Costs, each in seconds a unit: a sample of the slowest worker, a step, a worker's share of a server's link, ..."""


def _form(kind: Kind, exchange: str, overlap: float | None = 1.0, *, alone: bool = False) -> Form:
    """A candidate; where each worker steps `alone`, asynchronously, an update comes w times as often."""
    sample = "sample" if kind == "servers" else "replica_sample"
    compute = ["step"] if alone else ["step", sample]

    def term(name: str) -> Term:
        return (lambda x: _COST[name](x) / x[:, 1]) if alone else _COST[name]

    return Form(
        name=f"auto-{'async' if alone else 'sync'}" if kind == "servers" else "auto-reduce",
        kind=kind,
        compute={name: term(name) for name in compute},
        exchange={name: term(name) for name in exchange.split()},
        overlap=overlap,
    )


CANDIDATES: tuple[Form, ...] = (
    _form("servers", "shard worker split"),
    _form("servers", "shard worker server"),
    _form("servers", "shard"),
    _form("servers", "shard root_worker"),
    _form("servers", "shard worker shared"),
    _form("servers", "shard worker split", 3.0),
    _form("servers", "link worker split"),
    _form("servers", "shard worker split", alone=True),
    _form("servers", "shard worker server", alone=True),
    _form("servers", "shard", alone=True),
    _form("servers", "shard root_worker", alone=True),
    _form("replicas", "local local_replica between between_replica", None),
    _form("replicas", "ring between_ring between_replica", None),
    _form("replicas", "local local_replica between between_replica density", None),
)


def fit_auto(data: Measurements, known: Mapping[str, tuple[float, float]]) -> SpeedFit:
    """The candidate that predicts left-out configurations best, its errors interpolated as far as the data say.

    Args:
        known: physical values by term: (seconds, weight beside one measurement), as of `physical`.
    Raises:
        Unidentifiable: no candidate's terms can be told apart; names points to add.
    """
    family = f"auto-{data.mode}" if data.mode else "auto"
    forms = [form for form in CANDIDATES if form.kind == data.kind and form.name.startswith(family)]
    if data.kind == "replicas":
        forms = [goodput.measured_terms(form, data) for form in forms]
    able = [form for form in forms if identifiable(form, data)]
    if not able:
        # The points named are those of a form with a term for each count, not of the least that could be fitted.
        refuse(forms[1], data)
    fits = []
    for form in able:
        mine = known if form.name == "auto-sync" else {}
        plain = fitted("auto", form, data, mine)
        error = plain._problem.log_s - np.log(plain._problem.terms.time(plain.theta, plain.overlap))
        few = np.random.default_rng(0).permutation(len(data))[:150]
        kernel = kriging.choose(data.kind, data.points[few], error[few])
        fits.append(plain if kernel == kriging.NONE else fitted("auto", form, data, mine, kernel=kernel))
    return leave_out(_best([leave_out(fit, most=10) for fit in fits]))


def _best(fits: Sequence[SpeedFit]) -> SpeedFit:
    """The least held-out error; but the first of its family unless that is worse by more than chance.

    A few points rank forms by luck: the usual form is left only for one whose errors, point by point, are smaller by
    more than one standard error (Breiman et al. 1984).
    """
    best = min(fits, key=lambda fit: fit.held_out_mape)
    usual = next(fit for fit in fits if fit.form.name == best.form.name)
    worse = np.abs(usual.held_out) - np.abs(best.held_out)
    return usual if worse.mean() <= worse.std() / np.sqrt(len(worse)) else best


def physical(
    data: Measurements, parameter_bytes: float | None, bytes_per_s: float | None
) -> dict[str, tuple[float, float]]:
    """What is known of the coefficients beforehand: a worker's share of a link, 2 S / B, of a parameter server.

    Raises:
        UserError: only one of the two is given, or one is not positive.
    """
    if (parameter_bytes is None) != (bytes_per_s is None):
        raise UserError("parameter_bytes and bytes_per_s are of use together only; give both or neither")
    if parameter_bytes is None or bytes_per_s is None or data.kind != "servers":
        return {}
    if not (parameter_bytes > 0 and bytes_per_s > 0):
        raise UserError("parameter_bytes and bytes_per_s must be positive")
    # Believed to 20 %: protocols cost some of a link, and a server's own work adds to it.
    share = optimus.network_t2(parameter_bytes, bytes_per_s), kriging.NOISE / 0.2
    return {"shard": share, "link": share}

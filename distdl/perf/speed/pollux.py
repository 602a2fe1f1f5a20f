"""Pollux' model of a step under all-reduce (Qiao et al., OSDI 2021, Eq. 8 to 11), as its goodput uses it."""

import numpy as np

from distdl.perf.speed.fit import Form
from distdl.perf.speed.measurements import Array, Measurements


def _one_node(x: Array) -> Array:
    return ((x[:, 0] == 1) & (x[:, 1] > 1)).astype(float)


def _many_nodes(x: Array) -> Array:
    return (x[:, 0] > 1).astype(float)


def _more(x: Array) -> Array:
    """Replicas beyond two: what retreats with each one more."""
    return np.maximum(x[:, 1] - 2, 0)


GOODPUT = Form(
    name="goodput",
    kind="replicas",
    compute={"alpha_compute": lambda x: np.ones(len(x)), "beta_compute": lambda x: x[:, 2]},
    exchange={
        "alpha_local": _one_node,
        "beta_local": lambda x: _one_node(x) * _more(x),
        "alpha_node": _many_nodes,
        "beta_node": lambda x: _many_nodes(x) * _more(x),
    },
    overlap=None,
)
"""T_compute = alpha + beta m; T_sync = 0 alone, else alpha + beta (K - 2), apart within a node and between nodes."""


def measured_terms(form: Form, data: Measurements) -> Form:
    """The form without the exchange terms that no measurement has: what was never used cannot be known."""
    values = form.at(data.points).values[:, len(form.compute) :]
    used = [name for name, column in zip(form.exchange, values.T, strict=True) if column.any()]
    return Form(
        name=form.name,
        kind=form.kind,
        compute=form.compute,
        exchange={name: form.exchange[name] for name in used},
        overlap=form.overlap if used else 1.0,
    )

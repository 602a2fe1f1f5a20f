"""Optimus' models of training speed under a parameter server (Peng et al., EuroSys 2018, Eq. 2 to 4)."""

import numpy as np

from distdl.perf.speed.fit import Form
from distdl.perf.speed.measurements import Array, Measurements


def _servers(points: Array) -> Array:
    return points[:, 0]


def _workers(points: Array) -> Array:
    return points[:, 1]


SYNC = Form(
    name="optimus-sync",
    kind="servers",
    compute={"t0": lambda x: x[:, 2] / _workers(x), "t1": lambda x: np.ones(len(x))},
    exchange={"t2": lambda x: _workers(x) / _servers(x), "t3": _workers, "t4": _servers},
    relative=True,
)
"""Eq. 4: 1 / f = t0 M / w + t1 + t2 w / p + t3 w + t4 p, M the global batch."""

ASYNC = Form(
    name="optimus-async",
    kind="servers",
    compute={"t0": lambda x: 1 / _workers(x)},
    exchange={
        "t1": lambda x: 1 / _servers(x),
        "t2": lambda x: np.ones(len(x)),
        "t3": lambda x: _servers(x) / _workers(x),
    },
    relative=True,
)
"""Eq. 3: w / f = t0 + t1 w / p + t2 w + t3 p; here divided by w, for 1 / f is the time between two updates."""

PUBLISHED_SYNC = {"t0": 1.02, "t1": 2.78, "t2": 4.92, "t3": 0.00, "t4": 0.02}
"""ResNet-50, synchronous, in seconds, at a global batch of `PUBLISHED_BATCH`."""
PUBLISHED_BATCH = 40
UNCONFIRMED_ASYNC = {"t0": 2.83, "t1": 3.92, "t2": 0.00, "t3": 0.11}
"""ResNet-50, asynchronous. Unconfirmed: of t3, copies of the paper give 0.11 and 0.505."""


def step_s(
    coefficients: dict[str, float], servers: Array, workers: Array, batch: Array | float, form: Form = SYNC
) -> Array:
    """Seconds a step at given coefficients, broadcast over servers, workers and global batch."""
    p, w, m = np.broadcast_arrays(*(np.asarray(value, float) for value in (servers, workers, batch)))
    terms = form.at(np.stack([p.ravel(), w.ravel(), m.ravel()], 1))
    return (terms.values @ np.array([coefficients[name] for name in form.names])).reshape(p.shape)


def measurements(servers: Array, workers: Array, batch: Array, step_s: Array) -> Measurements:
    """Arrays [n] as the fits take them."""
    points = np.stack(np.broadcast_arrays(*(np.asarray(v, float) for v in (servers, workers, batch))), 1)
    return Measurements(kind="servers", points=points, step_s=np.asarray(step_s, float))


def network_t2(parameter_bytes: float, bytes_per_s: float) -> float:
    """t2 of a synchronous run bound by one link of this rate per server: S w / p bytes pushed and pulled, 2 S / B."""
    return 2 * parameter_bytes / bytes_per_s

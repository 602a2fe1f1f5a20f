"""Optimus' models of training speed under a parameter server (Peng et al., EuroSys 2018, Eq. 2 to 4)."""

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.speed.form import Form, Term
from distdl.perf.speed.placements import Placements

SYNC = Form(
    name="optimus-sync",
    kind="servers",
    compute={
        "t0": Term("M / w: a worker's samples", lambda x: x.batch / x.workers),
        "t1": Term("a step", lambda x: np.ones(len(x))),
    },
    exchange={
        "t2": Term("w / p: a worker on a server's link", lambda x: x.workers / x.servers),
        "t3": Term("each worker", lambda x: x.workers),
        "t4": Term("each server", lambda x: x.servers),
    },
    relative=True,
)
"""Eq. 4: 1 / f = t0 M / w + t1 + t2 w / p + t3 w + t4 p, where M is the global batch size."""

ASYNC = Form(
    name="optimus-async",
    kind="servers",
    compute={"t0": Term("a worker's step", lambda x: 1 / x.workers)},
    exchange={
        "t1": Term("w / p: a worker on a server's link", lambda x: 1 / x.servers),
        "t2": Term("each worker", lambda x: np.ones(len(x))),
        "t3": Term("each server", lambda x: x.servers / x.workers),
    },
    relative=True,
)
"""Eq. 3: w / f = t0 + t1 w / p + t2 w + t3 p, divided by w, because 1 / f is the time between two updates."""

PUBLISHED_SYNC = {"t0": 1.02, "t1": 2.78, "t2": 4.92, "t3": 0.00, "t4": 0.02}
"""Coefficients of synchronous ResNet-50 in seconds, at a global batch size of `PUBLISHED_BATCH`."""
PUBLISHED_BATCH = 40
UNCONFIRMED_ASYNC = {"t0": 2.83, "t1": 3.92, "t2": 0.00, "t3": 0.11}
"""Coefficients of asynchronous ResNet-50 in seconds. Unconfirmed: for t3, copies of the paper give 0.11 and 0.505."""


def step_s(
    coefficients: dict[str, float], servers: Array, workers: Array, batch: Array | float, form: Form = SYNC
) -> Array:
    """Compute the seconds per step from given coefficients, broadcast over servers, workers and global batch size."""
    p, w, m = np.broadcast_arrays(*(np.asarray(value, float) for value in (servers, workers, batch)))
    terms = form.at(Placements(kind="servers", points=np.stack([p.ravel(), w.ravel(), m.ravel()], 1)))
    return (terms.values @ np.array([coefficients[name] for name in form.names])).reshape(p.shape)


def network_t2(parameter_bytes: float, bytes_per_s: float) -> float:
    """Return t2 of a synchronous run with one link of this bandwidth per server: 2 S / B seconds.

    Each server's link transfers S w / p bytes of gradients and as many of parameters.
    """
    return 2 * parameter_bytes / bytes_per_s

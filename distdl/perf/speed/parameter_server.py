"""Forms of `auto` for parameter servers, with effects that Optimus' form does not include.

The slowest worker processes ceil(M / w) samples, exchange may overlap with compute, a worker's own link transfers all
parameters for any number of servers, and the servers divide their work between them.
"""

import numpy as np

from distdl.perf.speed.form import Form, Term

COSTS: dict[str, Term] = {
    "sample": Term("a sample of the slowest worker", lambda x: np.ceil(x.batch / x.workers)),
    "step": Term("a step, whatever its size", lambda x: np.ones(len(x))),
    "shard": Term("a worker on one server's link (w / p)", lambda x: x.workers / x.servers),
    "link": Term("the same, and no less than on the worker's own", lambda x: np.maximum(x.workers / x.servers, 1.0)),
    "worker": Term("each worker", lambda x: x.workers),
    "root_worker": Term("root of the number of workers", lambda x: np.sqrt(x.workers)),
    "server": Term("each server", lambda x: x.servers),
    "split": Term("work divided between servers (1 / p)", lambda x: 1 / x.servers),
    "shared": Term("more than one worker", lambda x: (x.workers > 1).astype(float)),
}


def _sync(exchange: str, overlap: float = 1.0) -> Form:
    return Form(
        name="auto-sync",
        kind="servers",
        compute={name: COSTS[name] for name in ("step", "sample")},
        exchange={name: COSTS[name] for name in exchange.split()},
        overlap=overlap,
    )


def _async(exchange: str) -> Form:
    """Build a form in which workers are independent, so that updates are w times as frequent."""
    return Form(
        name="auto-async",
        kind="servers",
        compute={"step": _per_worker("step")},
        exchange={name: _per_worker(name) for name in exchange.split()},
    )


def _per_worker(name: str) -> Term:
    cost = COSTS[name]
    return Term(cost.unit, lambda x: cost.count(x) / x.workers)


SYNC = (
    _sync("shard worker split"),
    _sync("shard worker server"),
    _sync("shard"),
    _sync("shard root_worker"),
    _sync("shard worker shared"),
    _sync("shard worker split", 3.0),
    _sync("link worker split"),
)
ASYNC = (
    _async("shard worker split"),
    _async("shard worker server"),
    _async("shard"),
    _async("shard root_worker"),
)

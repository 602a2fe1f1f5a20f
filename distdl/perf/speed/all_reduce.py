"""Forms of `auto` for all-reduce: Pollux' terms, a ring's bytes per link, and replicas that share a node's link."""

import numpy as np

from distdl.perf.speed.form import Form, Term
from distdl.perf.speed.pollux import beyond_two, on_many_nodes, on_one_node

COSTS: dict[str, Term] = {
    "step": Term("a step, whatever its size", lambda x: np.ones(len(x))),
    "replica_sample": Term("a sample of a replica", lambda x: x.local_batch),
    "local": Term("exchange within a node", on_one_node),
    "between": Term("exchange between nodes", on_many_nodes),
    "local_replica": Term("each replica beyond 2, in a node", lambda x: np.where(x.nodes == 1, beyond_two(x), 0.0)),
    "between_replica": Term("each replica beyond 2, over nodes", lambda x: np.where(x.nodes > 1, beyond_two(x), 0.0)),
    "ring": Term("share of a ring (K - 1) / K", lambda x: (x.replicas - 1) / x.replicas),
    "between_ring": Term("the same, over nodes", lambda x: np.where(x.nodes > 1, (x.replicas - 1) / x.replicas, 0.0)),
    "density": Term(
        "replicas that share a node's link", lambda x: np.where(x.nodes > 1, x.replicas / x.nodes - 1, 0.0)
    ),
}


def _reduce(exchange: str) -> Form:
    return Form(
        name="auto-reduce",
        kind="replicas",
        compute={name: COSTS[name] for name in ("step", "replica_sample")},
        exchange={name: COSTS[name] for name in exchange.split()},
        overlap=None,
    )


PAIRWISE = _reduce("local local_replica between between_replica")
RING = _reduce("ring between_ring between_replica")
SHARED_LINK = _reduce("local local_replica between between_replica density")

"""Pollux' model of a step under all-reduce (Qiao et al., OSDI 2021, Eq. 8 to 11)."""

import numpy as np

from distdl.perf.arrays import Array
from distdl.perf.speed.form import Form, Term
from distdl.perf.speed.placements import Placements


def on_one_node(x: Placements) -> Array:
    """Return 1 if several replicas share a single node, else 0, [n]."""
    return ((x.nodes == 1) & (x.replicas > 1)).astype(float)


def on_many_nodes(x: Placements) -> Array:
    """Return 1 if there are several nodes, else 0, [n]."""
    return (x.nodes > 1).astype(float)


def beyond_two(x: Placements) -> Array:
    """Return the number of replicas beyond two, [n]: Pollux' retrogression term."""
    return np.maximum(x.replicas - 2, 0)


POLLUX = Form(
    name="pollux",
    kind="replicas",
    compute={
        "alpha_compute": Term("a step", lambda x: np.ones(len(x))),
        "beta_compute": Term("a sample", lambda x: x.local_batch),
    },
    exchange={
        "alpha_local": Term("exchange within a node", on_one_node),
        "beta_local": Term("each replica beyond 2, in a node", lambda x: on_one_node(x) * beyond_two(x)),
        "alpha_node": Term("exchange between nodes", on_many_nodes),
        "beta_node": Term("each replica beyond 2, over nodes", lambda x: on_many_nodes(x) * beyond_two(x)),
    },
    overlap=None,
)
"""T_compute = alpha + beta m; T_sync = 0 for one replica, otherwise alpha + beta (K - 2), with separate coefficients
within a node and between nodes."""

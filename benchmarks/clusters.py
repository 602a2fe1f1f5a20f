"""Simulated clusters with known, realistic costs and noise, to test speed models.

A step under a parameter server (Optimus, Eq. 2, and effects that it does not include):

- compute: ceil(M / w) samples on the slowest worker, and the largest of w random delays if workers wait for each other;
  the batch of an asynchronous worker does not depend on the number of workers;
- shards: tensors of very unequal size are assigned to servers by MXNet's rule (large ones sliced, small ones hashed),
  and the server with the most bytes is the bottleneck; each tensor is a request with a constant cost;
- links: a worker's link transfers all parameters, a server's link its shard for every worker, both in two directions;
  if there is one worker and one server, half of the bytes stay on the same machine;
- updates: the server with the most bytes adds w gradients;
- exchange overlaps with compute to a degree (g); two processes share each machine and interfere.

Under all-reduce: a ring within a node and between nodes, latency per hop, overlap, and different placements.
"""

from dataclasses import dataclass

import numpy as np

from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements


@dataclass(frozen=True, kw_only=True)
class Model:
    """Work and traffic of a network."""

    name: str
    batch: int
    sample_s: float
    step_s: float
    megabytes: float
    tensors: int
    skew: float
    """Standard deviation of the logarithm of the tensors' sizes."""
    overlap: float = 1.5


MODELS = (
    Model(name="residual", batch=32, sample_s=0.05, step_s=0.15, megabytes=100, tensors=160, skew=1.6),
    Model(name="wide head", batch=32, sample_s=0.08, step_s=0.1, megabytes=530, tensors=32, skew=2.6),
    Model(name="inception", batch=128, sample_s=0.004, step_s=0.1, megabytes=45, tensors=220, skew=1.3, overlap=2.0),
    Model(name="sequence", batch=64, sample_s=0.002, step_s=0.08, megabytes=90, tensors=24, skew=2.0, overlap=1.2),
    Model(name="text", batch=50, sample_s=0.012, step_s=0.2, megabytes=8, tensors=10, skew=1.5),
)


def servers(model: Model, mode: str, seed: int, *, noise: float, link: float = 5e8) -> Measurements:
    """Simulate measurements of 1 to 12 servers and 1 to 12 workers, on links of `link` bytes/s."""
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(0, model.skew, model.tensors)
    sizes *= model.megabytes * 1e6 / sizes.sum()
    request_s, update_s = rng.uniform(50e-6, 200e-6), rng.uniform(0.3e-9, 1e-9)
    interference, jitter = rng.uniform(0.005, 0.02), rng.uniform(0.02, 0.06)
    rows = []
    for p in range(1, 13):
        fullest, requests = _fullest(sizes, p, rng)
        for w in range(1, 13):
            batch = model.batch if mode == "sync" else model.batch // 4 * w
            samples = np.ceil(batch / w)
            waits = jitter * np.sqrt(2 * np.log(w)) if mode == "sync" and w > 1 else 0.0
            compute = (model.step_s + model.sample_s * samples) * (1 + waits)
            wire = (1 if w == p == 1 else 2) * max(sizes.sum(), w * fullest) / link
            exchange = wire + request_s * requests * w + update_s * fullest * w
            step = (compute**model.overlap + exchange**model.overlap) ** (1 / model.overlap)
            step *= 1 + interference * max(0, p + w - 8)
            step = step if mode == "sync" else step / w
            rows.append((p, w, batch, step * rng.lognormal(0, noise)))
    table = np.array(rows, float)
    return Measurements(placements=Placements(kind="servers", points=table[:, :3]), step_s=table[:, 3])


def _fullest(sizes: np.ndarray, p: int, rng: np.random.Generator) -> tuple[float, int]:
    """Return bytes and requests of the server with the most bytes, by MXNet's rule: sliced above 4 MB, else hashed."""
    shards, requests = np.zeros(p), np.zeros(p)
    for size in sizes:
        at = slice(None) if size > 4e6 else rng.integers(p)
        shards[at] += size / p if size > 4e6 else size
        requests[at] += 1
    return float(shards.max()), int(requests[shards.argmax()])


def replicas(model: Model, seed: int, *, noise: float) -> Measurements:
    """Simulate measurements of 1 to 4 nodes with 1 to 4 replicas each, at six batch sizes."""
    rng = np.random.default_rng(seed)
    within, between, hop_s = 8e9, 1.2e9, rng.uniform(0.2e-3, 1e-3)
    rows = []
    for nodes in range(1, 5):
        for each in range(1, 5):
            k, slowdown = nodes * each, rng.lognormal(0, 0.1)
            ring = 2 * (k - 1) / k * model.megabytes * 1e6
            exchange = 0.0 if k == 1 else (ring / (within if nodes == 1 else between) + 2 * hop_s * (k - 1)) * slowdown
            for batch in (8, 16, 32, 64, 128, 256):
                compute = 0.3 * model.step_s + 0.05 * model.sample_s * batch
                step = (compute**model.overlap + (3 * exchange) ** model.overlap) ** (1 / model.overlap)
                rows.append((nodes, k, batch, step * rng.lognormal(0, noise)))
    table = np.array(rows, float)
    return Measurements(placements=Placements(kind="replicas", points=table[:, :3]), step_s=table[:, 3])

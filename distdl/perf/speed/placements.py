"""Placements of a training on hardware: how many servers and workers, or nodes and replicas, at which batch size."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from distdl.perf.arrays import Array, Mask, Rows

Kind = Literal["servers", "replicas"]

COLUMNS: dict[Kind, tuple[str, str, str]] = {
    "servers": ("servers", "workers", "batch_size"),
    "replicas": ("nodes", "replicas", "local_batch_size"),
}
"""Names of the three columns of `Placements.points`: under a parameter server, and under all-reduce."""


@dataclass(frozen=True, kw_only=True)
class Placements:
    """Placements of one kind. Each column is a property, which only placements of the kind that has it provide."""

    kind: Kind
    points: Array
    """[n, 3] (servers, workers, global batch) or (nodes, replicas, batch per replica); all at least 1."""

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Rows) -> "Placements":
        return replace(self, points=self.points[rows])

    def at(self, points: Array) -> "Placements":
        """Placements of the same kind at other points [m, 3]."""
        return replace(self, points=points)

    @property
    def servers(self) -> Array:
        return self._column("servers")

    @property
    def workers(self) -> Array:
        return self._column("workers")

    @property
    def batch(self) -> Array:
        """Global batch size."""
        return self._column("batch_size")

    @property
    def nodes(self) -> Array:
        return self._column("nodes")

    @property
    def replicas(self) -> Array:
        """Replicas on all nodes together."""
        return self._column("replicas")

    @property
    def local_batch(self) -> Array:
        """Batch size of each replica."""
        return self._column("local_batch_size")

    def _column(self, name: str) -> Array:
        return self.points[:, COLUMNS[self.kind].index(name)]

    @property
    def is_feasible(self) -> Mask:
        """[n] whether each can run: a sample for each worker of the global batch, or a replica on each node."""
        return self.batch >= self.workers if self.kind == "servers" else self.replicas >= self.nodes

    @property
    def levels(self) -> list[Array]:
        """Groups of columns [n, c] whose equal values share a systematic error: a server count, a worker count; under
        all-reduce, replicas on nodes."""
        if self.kind == "servers":
            return [self.servers[:, None], self.workers[:, None]]
        return [np.stack([self.nodes, self.replicas], 1)]

    def is_within(self, measured: "Placements") -> Mask:
        """[n] whether each is inside the box that the measured placements span."""
        low, high = measured.points.min(0), measured.points.max(0)
        return ((self.points >= low) & (self.points <= high)).all(1)

    def name(self, point: Array) -> str:
        """Describe a point, e.g. "servers 2, workers 4, batch_size 128"."""
        return ", ".join(f"{column} {value:g}" for column, value in zip(COLUMNS[self.kind], point, strict=True))

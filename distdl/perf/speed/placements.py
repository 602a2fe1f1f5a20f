"""Placements of a training on hardware: numbers of servers and workers, or of nodes and replicas, and batch size."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from distdl.perf.arrays import Array, Mask, Rows

PlacementKind = Literal["servers", "replicas"]

COLUMNS: dict[PlacementKind, tuple[str, str, str]] = {
    "servers": ("servers", "workers", "batch_size"),
    "replicas": ("nodes", "replicas", "local_batch_size"),
}
"""Names of the three columns of `Placements.points`: under a parameter server, and under all-reduce."""


@dataclass(frozen=True, kw_only=True)
class Placements:
    """Placements of one kind. Each column is a property, which exists only for the kind that has this column."""

    kind: PlacementKind
    points: Array
    """[n, 3] (servers, workers, global batch) or (nodes, replicas, batch per replica); all at least 1."""

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Rows) -> "Placements":
        """Select placements."""
        return replace(self, points=self.points[rows])

    def at(self, points: Array) -> "Placements":
        """Return placements of the same kind at other points [m, 3]."""
        return replace(self, points=points)

    @property
    def servers(self) -> Array:
        """[n] number of servers."""
        return self._column("servers")

    @property
    def workers(self) -> Array:
        """[n] number of workers."""
        return self._column("workers")

    @property
    def batch(self) -> Array:
        """[n] global batch size."""
        return self._column("batch_size")

    @property
    def nodes(self) -> Array:
        """[n] number of nodes."""
        return self._column("nodes")

    @property
    def replicas(self) -> Array:
        """[n] number of replicas on all nodes."""
        return self._column("replicas")

    @property
    def local_batch(self) -> Array:
        """[n] batch size per replica."""
        return self._column("local_batch_size")

    def _column(self, name: str) -> Array:
        return self.points[:, COLUMNS[self.kind].index(name)]

    @property
    def is_feasible(self) -> Mask:
        """[n] whether each can run: at least one sample of the global batch per worker, or one replica per node."""
        return self.batch >= self.workers if self.kind == "servers" else self.replicas >= self.nodes

    @property
    def levels(self) -> list[Array]:
        """Columns [n, c] such that placements with equal values share a systematic error: the number of servers and the
        number of workers; under all-reduce, nodes and replicas together."""
        if self.kind == "servers":
            return [self.servers[:, None], self.workers[:, None]]
        return [np.stack([self.nodes, self.replicas], 1)]

    def is_within(self, measured: "Placements") -> Mask:
        """Return [n], whether each placement is inside the range of the measured ones."""
        low, high = measured.points.min(0), measured.points.max(0)
        return ((self.points >= low) & (self.points <= high)).all(1)

    def name(self, point: Array) -> str:
        """Describe a point, e.g. "servers 2, workers 4, batch_size 128"."""
        return ", ".join(f"{column} {value:g}" for column, value in zip(COLUMNS[self.kind], point, strict=True))

"""Measured step times: the input of the speed models."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distdl.perf.arrays import Array, Rows
from distdl.perf.speed.placements import PlacementKind, Placements


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Step times of one network on one kind of hardware, at n placements, which may repeat."""

    placements: Placements
    step_s: Array
    """[n] seconds per step; in asynchronous mode, between two updates from any workers."""
    sync_s: Array | None = None
    """[n] seconds of `step_s` in exchange that is not overlapped with backward; None if not measured."""
    mode: Literal["sync", "async"] | None = None
    """Update mode of the servers, if known."""
    replayed: int = 0
    """Number of measurements in which recorded compute was replayed (ps.compute replay)."""

    def __len__(self) -> int:
        return len(self.step_s)

    @property
    def kind(self) -> PlacementKind:
        """Kind of the placements."""
        return self.placements.kind

    @property
    def points(self) -> Array:
        """[n, 3], see `Placements.points`."""
        return self.placements.points

    def take(self, rows: Rows) -> "Measurements":
        """Select the measurements at `rows`."""
        sync = None if self.sync_s is None else self.sync_s[rows]
        return replace(self, placements=self.placements.take(rows), step_s=self.step_s[rows], sync_s=sync)

    @property
    def configurations(self) -> NDArray[np.intp]:
        """[n] number of each measurement's placement: equal for measurements of the same placement."""
        return np.unique(self.points, axis=0, return_inverse=True)[1].ravel()

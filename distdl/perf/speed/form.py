"""A form of the step time: a sum of compute costs, a sum of exchange costs, and the degree to which the two overlap.

    T = (C^g + E^g)^(1/g),   C = sum_j c_j C_j(placement),   E = sum_k e_k E_k(placement),   c, e >= 0

With g = 1 the two are added, with g -> infinity T is the longer one (Pollux, Qiao et al. 2021, Eq. 10). T is
homogeneous of degree 1 in (c, e), so T = J (c, e) with its Jacobian J.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from distdl.perf.arrays import Array, Rows
from distdl.perf.regression import TINY
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import PlacementKind, Placements

OVERLAPS = (1.0, 10.0)
"""Range of g (Pollux): from no overlap to nearly complete overlap."""


@dataclass(frozen=True)
class Term:
    """One cost of a step. Its coefficient is in seconds per unit."""

    unit: str
    """Description of one unit for the user, such as "each worker"."""
    count: Callable[[Placements], Array]
    """The number of units [n] at n placements."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Model of the step time: terms of compute and of exchange, and their overlap."""

    name: str
    kind: PlacementKind
    compute: Mapping[str, Term] = field(default_factory=dict)
    exchange: Mapping[str, Term] = field(default_factory=dict)
    overlap: float | None = 1.0
    """g; None if it is fitted, as an additional coefficient named gamma."""
    relative: bool = False
    """Whether to minimize T_fitted / T_measured - 1, as Optimus does, instead of the log error; only for g = 1."""

    @property
    def names(self) -> list[str]:
        """Names of the coefficients, compute first."""
        return [*self.compute, *self.exchange]

    @property
    def units(self) -> dict[str, str]:
        """Description of one unit of each coefficient."""
        units = {name: term.unit for name, term in {**self.compute, **self.exchange}.items()}
        return units | ({"gamma": "overlap of exchange with compute"} if self.overlap is None else {})

    def at(self, placements: Placements) -> "Terms":
        """Evaluate the terms at n placements."""
        columns = [term.count(placements) for term in (*self.compute.values(), *self.exchange.values())]
        return Terms(values=np.stack(columns, 1), compute=len(self.compute))

    def measured_terms(self, data: Measurements) -> "Form":
        """Return the form without exchange terms that are 0 in all measurements, which do not determine them."""
        values = self.at(data.placements).values[:, len(self.compute) :]
        exchange = {
            name: term for (name, term), column in zip(self.exchange.items(), values.T, strict=True) if column.any()
        }
        return replace(self, exchange=exchange, overlap=self.overlap if exchange else 1.0)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Values [n, k] of a form's terms at n placements, compute first."""

    values: Array
    compute: int
    """Number of compute terms."""

    def take(self, rows: Rows) -> "Terms":
        """Select placements."""
        return replace(self, values=self.values[rows])

    def parts(self, theta: Array) -> tuple[Array, Array]:
        """Return the seconds of compute and of exchange, [n] each."""
        a = self.compute
        return self.values[:, :a] @ theta[:a], self.values[:, a:] @ theta[a:]

    def time(self, theta: Array, overlap: float) -> Array:
        """Return the seconds per step, [n]."""
        if overlap == 1:
            return self.values @ theta
        compute, exchange = self.parts(theta)
        longer = np.maximum(compute, exchange)
        ratio = np.minimum(compute, exchange) / np.maximum(longer, TINY)
        return longer * (1 + ratio**overlap) ** (1 / overlap)

    def jacobian(self, theta: Array, overlap: float) -> Array:
        """Return the derivative of `time` with respect to theta, [n, k]; `jacobian @ theta` equals `time`."""
        if overlap == 1:
            return self.values
        total = np.maximum(self.time(theta, overlap), TINY)
        slopes = [np.maximum(part / total, 1e-6) ** (overlap - 1) for part in self.parts(theta)]
        return self.values * np.repeat(slopes, [self.compute, self.values.shape[1] - self.compute], 0).T

    def overlap_gradient(self, theta: Array, overlap: float) -> Array:
        """Return the derivative of log `time` with respect to 1 / g, [n]; log `time` is nearly linear in 1 / g."""
        step = 1e-4
        u = np.clip(1 / overlap, 1 / OVERLAPS[1] + step, 1 - step)
        above, below = (np.log(self.time(theta, 1 / v)) for v in (u + step, u - step))
        return (above - below) / (2 * step)

"""Data sheets of devices and networks: TOML files that ship with distdl, or a user's own of the same form.

Peaks are dense, for matrix products at a precision. K, M, G and T are powers of 1000 throughout.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from distdl.core.errors import UserError, as_literal, nearest, shortened
from distdl.core.userfiles import read_toml
from distdl.core.validation import check

Kind = TypeVar("Kind", "Device", "NetworkLink")

PRECISION_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
"""Bytes per element in memory at each precision of a matrix product."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One accelerator, or one machine's processor."""

    name: str
    bandwidth_gb_per_s: float
    """Bandwidth of its memory."""
    peak_tflops: Mapping[str, float]
    """Peak by precision: fp32, tf32, fp16, bf16."""
    memory_gb: float | None = None
    link_gb_per_s: float | None = None
    """Bandwidth to other devices of the same machine, both directions together."""
    names: tuple[str, ...] = ()
    """The driver's names for it."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Result of `distdl calibrate` by precision; see perf/cost/calibration.py."""

    def __post_init__(self) -> None:
        positive(self.bandwidth_gb_per_s, "bandwidth_gb_per_s")
        if not self.peak_tflops:
            raise UserError("peak_tflops is empty: it takes a figure for fp32 at least")
        for precision, peak in self.peak_tflops.items():
            if precision not in PRECISION_BYTES:
                raise UserError(f'peak_tflops: precision "{precision}" is none of {", ".join(PRECISION_BYTES)}')
            positive(peak, f"peak_tflops.{precision}")

    @property
    def bytes_per_s(self) -> float:
        return self.bandwidth_gb_per_s * 1e9

    def flops_per_s(self, precision: str = "fp32") -> float:
        """Dense peak. Raises UserError for a precision whose peak is not known."""
        if precision not in self.peak_tflops:
            raise UserError(f"{self.name} has no peak for {precision}: known are {', '.join(self.peak_tflops)}")
        return self.peak_tflops[precision] * 1e12


@dataclass(frozen=True, kw_only=True)
class NetworkLink:
    """A network between workers: each can send and receive at this rate, in one direction."""

    name: str
    bandwidth_gbit_per_s: float
    """In bits, as networks are sold: 8 per byte."""
    latency_us: float = 0.0
    """Latency of one message."""
    group: int | None = None
    """Number of workers per group; between groups links have `between` of the bandwidth. None: one group."""
    between: float = 1.0

    def __post_init__(self) -> None:
        positive(self.bandwidth_gbit_per_s, "bandwidth_gbit_per_s")
        if self.latency_us < 0:
            raise UserError(f"latency_us must not be negative, it is {self.latency_us}")

    @property
    def bytes_per_s(self) -> float:
        return self.bandwidth_gbit_per_s * 1e9 / 8

    @property
    def latency_s(self) -> float:
        return self.latency_us * 1e-6


def positive(value: Any, what: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{what} must be a number above 0, it is {as_literal(value)}")


def device(name: str) -> Device:
    """The device of that name, or of that TOML file.

    Raises:
        UserError: neither exists, or the file does not describe a device.
    """
    return _make(Device, _table("devices", name), name)


def network(name: str) -> NetworkLink:
    """The network of that name, or of that TOML file. Raises UserError as `device` does."""
    return _make(NetworkLink, _table("networks", name), name)


def names(folder: str) -> list[str]:
    """Names that ship with distdl, of "devices" or of "networks"."""
    return sorted(entry.name.removesuffix(".toml") for entry in _files(folder))


def recognise(driver_name: str) -> Device | None:
    """The device that a driver calls by this name (NVML, torch.cuda.get_device_name); None for one not known."""
    for entry in _files("devices"):
        known = device(entry.name.removesuffix(".toml"))
        if driver_name in known.names:
            return known
    return None


def _files(folder: str) -> Iterator[Traversable]:
    root = resources.files("distdl.profiles") / folder
    return (entry for entry in root.iterdir() if entry.name.endswith(".toml"))


def _table(folder: str, name: str) -> dict[str, Any]:
    if "/" in name or name.endswith(".toml"):
        file: Any = Path(name)
    else:
        known = {entry.name.removesuffix(".toml"): entry for entry in _files(folder)}
        if name not in known:
            kind, shipped = folder.removesuffix("s"), ", ".join(sorted(known))
            more = nearest(name, known) or f" (known: {shipped}; or give a TOML file of your own)"
            raise UserError(f'{kind} "{shortened(name)}" is not known{more}')
        file = known[name]
    return read_toml(file)


def _make(kind: type[Kind], table: dict[str, Any], where: str) -> Kind:
    known = [item.name for item in fields(kind)]
    for key in table:
        if key not in known:
            about = f"{nearest(key, known)} (known: {', '.join(known)})"
            raise UserError(f'{where}: "{shortened(key)}" is not known{about}')
    try:
        return check(kind, table, where=where, strict=True)
    except UserError as error:  # of the type's own checks, which do not know the file
        raise UserError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None

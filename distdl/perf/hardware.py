"""Data sheets of devices and networks, read from TOML files that are part of distdl or of the user.

Peak rates are for dense matrix products at a precision. K, M, G and T are powers of 1000.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from distdl.core.config import AboveZero, Positive
from distdl.core.errors import UserError, as_literal, nearest, shortened
from distdl.core.userfiles import read_toml
from distdl.core.validation import check

Hardware = TypeVar("Hardware", "Device", "NetworkLink")

PRECISION_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
"""Bytes per element in memory at each precision of a matrix product."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One accelerator, or one machine's processor."""

    name: str
    bandwidth_gb_per_s: float
    """Memory bandwidth."""
    peak_tflops: Mapping[str, float]
    """Peak rate by precision: fp32, tf32, fp16, bf16."""
    memory_gb: AboveZero | None = None
    link_gb_per_s: AboveZero | None = None
    """Bandwidth to other devices of the same machine, sum of both directions."""
    names: tuple[str, ...] = ()
    """Names that the driver reports for this device."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Results of `distdl calibrate` by precision; see perf/cost/calibration.py."""

    def __post_init__(self) -> None:
        positive(self.bandwidth_gb_per_s, "bandwidth_gb_per_s")
        if not self.peak_tflops:
            raise UserError("peak_tflops is empty: it needs at least a value for fp32")
        for name, table in (("peak_tflops", self.peak_tflops), ("calibration", self.calibration)):
            for precision in table:
                if precision not in PRECISION_BYTES:
                    raise UserError(f'{name}: precision "{precision}" is not one of {", ".join(PRECISION_BYTES)}')
        for precision, peak in self.peak_tflops.items():
            positive(peak, f"peak_tflops.{precision}")

    @property
    def bytes_per_s(self) -> float:
        """Memory bandwidth in bytes/s."""
        return self.bandwidth_gb_per_s * 1e9

    def flops_per_s(self, precision: str = "fp32") -> float:
        """Return the dense peak rate in FLOP/s.

        Raises:
            UserError: the peak rate at this precision is not known.
        """
        if precision not in self.peak_tflops:
            raise UserError(f"{self.name} has no peak for {precision}: known are {', '.join(self.peak_tflops)}")
        return self.peak_tflops[precision] * 1e12


@dataclass(frozen=True, kw_only=True)
class NetworkLink:
    """A network between workers: each can send and receive at this rate at the same time."""

    name: str
    bandwidth_gbit_per_s: float
    """Bandwidth in one direction, in Gbit/s."""
    latency_us: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    """Latency of one message."""
    group: Positive | None = None
    """Number of workers per group; None for a single group."""
    between: AboveZero = 1.0
    """Bandwidth of links between groups, relative to links within a group."""

    def __post_init__(self) -> None:
        positive(self.bandwidth_gbit_per_s, "bandwidth_gbit_per_s")

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth in one direction, in bytes/s."""
        return self.bandwidth_gbit_per_s * 1e9 / 8

    @property
    def latency_s(self) -> float:
        """Latency of one message in seconds."""
        return self.latency_us * 1e-6


def positive(value: Any, what: str) -> None:
    """Check that a value is a positive finite number.

    Args:
        what: name of the value, for the message.
    Raises:
        UserError: it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{what} must be a number above 0, it is {as_literal(value)}")


def device(name: str) -> Device:
    """Return a device by name, or read it from a TOML file.

    Raises:
        UserError: neither exists, or the file does not describe a device.
    """
    return _make(Device, _table("devices", name), name)


def network(name: str) -> NetworkLink:
    """Return a network by name, or read it from a TOML file.

    Raises:
        UserError: neither exists, or the file does not describe a network.
    """
    return _make(NetworkLink, _table("networks", name), name)


def names(folder: str) -> list[str]:
    """Return the names of distdl's data sheets in folder "devices" or "networks"."""
    return sorted(entry.name.removesuffix(".toml") for entry in _files(folder))


def recognize(driver_name: str) -> Device | None:
    """Return the device with this name in NVML or torch.cuda.get_device_name; None if it is not known."""
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
            more = nearest(name, known) or f" (known: {shipped}; or use your own TOML file)"
            raise UserError(f'{kind} "{shortened(name)}" is not known{more}')
        file = known[name]
    return read_toml(file)


def _make(kind: type[Hardware], table: dict[str, Any], where: str) -> Hardware:
    known = [item.name for item in fields(kind)]
    for key in table:
        if key not in known:
            hint = f"{nearest(key, known)} (known: {', '.join(known)})"
            raise UserError(f'{where}: "{shortened(key)}" is not known{hint}')
    try:
        return check(kind, table, where=where, strict=True)
    except UserError as error:  # the checks of the type do not know the file
        raise UserError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None

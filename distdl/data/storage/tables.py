"""Tables of a shard's samples: location in the shard and label of each. Reading a table replaces scanning the shard.

A table is used only if the shard has not changed since the table was written, which is verified by:

    in the cache          the table's name: a hash of the shard's path, size, inode and times (`core.paths.fingerprint`)
    next to the shard     the shard's SHA-256, stored in the table, which must be that in set.json
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.core.paths import cache_folder, fingerprint
from distdl.data.storage.npz import read_arrays

ARRAYS = ("offset", "size", "label")
TEXTS = ("names", "notes", "sha256")
TABLE_BYTES = 2**26
"""Maximum size of a table's texts. Its numbers take 24 bytes per sample, fewer than a sample's header in the shard."""


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """The samples of one shard."""

    offset: np.ndarray
    """[n] int64, in bytes."""
    size: np.ndarray
    """[n] int64, in bytes."""
    label: np.ndarray
    """[n] int64: class numbers, or indices into `names` if the shard's labels are names."""
    names: tuple[str, ...] = ()
    """Class names of this shard, sorted; empty if its labels are numbers."""
    notes: tuple[str, ...] = ()
    """Sentences about members that were left out."""
    sha256: str = ""
    """SHA-256 of the shard, if it was computed."""

    @classmethod
    def of(
        cls,
        rows: list[tuple[int, int, int]],
        *,
        names: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        sha256: str = "",
    ) -> "SampleTable":
        """Build a table from rows of offset, size and label."""
        offset, size, label = np.array(rows, np.int64).reshape(-1, 3).T.copy()
        return cls(offset=offset, size=size, label=label, names=names, notes=notes, sha256=sha256)

    def __len__(self) -> int:
        return len(self.label)

    def same_samples(self, other: "SampleTable") -> bool:
        """Whether both list the same samples with the same labels."""
        arrays = (np.array_equal(getattr(self, name), getattr(other, name)) for name in ARRAYS)
        return all(arrays) and self.names == other.names


def cached(path: Path) -> Path:
    """Return the path in the cache for the table of a shard in its current version."""
    return cache_folder() / "shards" / f"{hashlib.sha256(fingerprint(path)).hexdigest()[:24]}.npz"


def write_table(file: Path, table: SampleTable) -> None:
    """Write a table atomically."""
    arrays: dict[str, Any] = {name: getattr(table, name) for name in ARRAYS}
    arrays |= {name: np.array(getattr(table, name)) for name in TEXTS}
    write_atomic(file, lambda sink: np.savez(sink, **arrays))


def read_table(file: Path, shard_bytes: int, sha256: str) -> SampleTable | None:
    """Read a table; None if the file does not exist or does not match a shard of this size and SHA-256."""
    if not file.is_file():
        return None
    try:
        arrays = read_arrays(file, "a table of samples", TABLE_BYTES + shard_bytes)
    except UserError:
        return None
    if arrays.keys() != {*ARRAYS, *TEXTS}:
        return None
    offset, size, label = columns = [arrays[name] for name in ARRAYS]
    texts = [arrays[name] for name in TEXTS]
    if any(column.dtype != np.int64 or column.shape != (label.size,) for column in columns):
        return None
    if any(text.size and text.dtype.kind != "U" for text in texts) or str(texts[2]) != sha256:
        return None
    names, notes = (tuple(map(str, text.ravel())) for text in texts[:2])
    # Not offset + size, which may overflow.
    in_shard = label.size and offset.min() >= 0 and size.min() > 0 and (size <= shard_bytes - offset).all()
    if not in_shard or label.min() < 0 or (names and label.max() >= len(names)):
        return None
    return SampleTable(offset=offset, size=size, label=label, names=names, notes=notes, sha256=sha256)

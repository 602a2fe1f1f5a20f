"""Read .npz files that may be damaged or made by others."""

import zipfile
from pathlib import Path

import numpy as np

from distdl.core.errors import UserError, reading

LIMIT_BYTES = 4 * 2**30
"""Unpacked: tables and label files hold a few numbers per sample, 100 million samples at most."""


def read_arrays(file: Path, kind: str) -> dict[str, np.ndarray]:
    """All arrays of a .npz file by name; no array of objects, for those are code.

    Args:
        kind: what the file should be, for the message.
    Raises:
        UserError: it is no such file, damaged, or unpacks to more than LIMIT_BYTES.
    """
    with reading(file, kind):
        with zipfile.ZipFile(file) as zipped:
            size = sum(entry.file_size for entry in zipped.infolist())
        if size > LIMIT_BYTES:
            raise UserError(f"{file} unpacks to {size:,} bytes, more than {LIMIT_BYTES:,}: it cannot be {kind}")
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

"""Reading of .npz files that may be damaged or written by other programs."""

import zipfile
from pathlib import Path

import numpy as np

from distdl.core.errors import UserError, reading
from distdl.core.regular import require_regular

LIMIT_BYTES = 4 * 2**30
"""Maximum unpacked size: tables and label files have a few numbers per sample, for at most 100 million samples."""


def read_arrays(file: Path, kind: str, limit: int = LIMIT_BYTES) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz file by name. Arrays of objects are refused, since unpickling them runs code.

    Args:
        kind: description of the expected file, for the message.
        limit: maximum unpacked size in bytes.
    Raises:
        UserError: it is not such a file, is damaged, or unpacks to more than `limit` bytes.
    """
    with reading(file, kind):
        require_regular(file)
        with zipfile.ZipFile(file) as zipped:
            size = sum(entry.file_size for entry in zipped.infolist())
        if size > limit:
            raise UserError(f"{file} unpacks to {size:,} bytes, more than {limit:,}: it cannot be {kind}")
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

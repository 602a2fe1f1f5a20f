"""Files of MXNet's record format (RecordIO) as DALI reads them, and their .idx files with `NUMBER TAB OFFSET` lines."""

import os
import struct
from pathlib import Path

import numpy as np

from distdl.core.errors import UserError, reading
from distdl.core.regular import open_regular, read_regular
from distdl.data.storage.tables import SampleTable

RECORD = struct.Struct("<IIIfQQ")
"""Header before the image's bytes: dmlc's magic number and length, then MXNet's flag, label, id and second id."""
MAGIC = 0xCED7230A
LENGTH_BITS = 29
"""Number of bits of the length in its field; the other bits mark an image that is split over several records."""
LABEL_LIMIT = 2**24
"""Larger integers are not exact in float32."""


def scan_records(path: Path) -> SampleTable:
    """Read all record headers of a file, and compare them with its index.

    Raises:
        UserError: a record is damaged, or the index does not list all records and no others.
    """
    rows = []
    with reading(path, "records"), open_regular(path) as file:
        end, start = os.fstat(file.fileno()).st_size, 0
        while start < end:
            header = os.pread(file.fileno(), RECORD.size, start)
            if len(header) < RECORD.size:
                raise UserError(f"{path} is truncated at byte {end:,}: copy it again")
            magic, length, flag, label, *_ = RECORD.unpack(header)
            if magic != MAGIC or length >> LENGTH_BITS or flag:
                raise UserError(f"{path}: there is no complete record of an image with one label at byte {start:,}")
            if not (0 <= label < LABEL_LIMIT and label.is_integer()):
                raise UserError(f"{path}: label {label} of the record at byte {start:,} is not a class number")
            size = length + 8 - RECORD.size
            if size <= 0 or start + 8 + length > end:
                raise UserError(
                    f"{path}: the record at byte {start:,} has a length of {length:,} bytes, the file has {end:,}"
                )
            rows.append((start + RECORD.size, size, int(label)))
            start += 8 + -(-length // 4) * 4
    if not rows:
        raise UserError(f"{path} is empty: copy it again")
    table = SampleTable.of(rows)
    _check_index(path, table.offset - RECORD.size)
    return table


def _check_index(path: Path, starts: np.ndarray) -> None:
    index = path.with_suffix(".idx")
    if not index.is_file():
        raise UserError(f"{index} is missing, the index of {path.name}: copy it too")
    with reading(index, "an index of records"):
        listed = np.sort([int(line.split()[1]) for line in read_regular(index).decode("ascii").splitlines()])
    if not np.array_equal(listed, starts):
        raise UserError(
            f"{index} lists {len(listed):,} records that are not the {len(starts):,} of {path.name}: copy both again"
        )

"""Small data sets, packed into shards or records."""

from pathlib import Path

import pytest

from distdl.core.config import DataConfig
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load
from distdl.data.storage.pack import pack
from numbered_sets import numbered

KINDS = ["shards", "records"]
each_kind = pytest.mark.parametrize("kind", KINDS)
SHARD_BYTES = 8000


def silent(_: int) -> None:
    """Ignore a progress report."""


def packed(kind: str, n: int, tmp_path: Path) -> tuple[DataSet, DataSet]:
    """A data set of files, and the same set packed and loaded."""
    (tmp_path / "files").mkdir()
    dataset = numbered("files", n, tmp_path / "files")
    pack(dataset, tmp_path / "packed", kind, SHARD_BYTES, silent)
    return dataset, load(DataConfig(name=str(tmp_path / "packed")))

"""Export as folders of files."""

from pathlib import Path

import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.data import files as encoded
from distdl.data.sets.load import load
from distdl.data.storage.export import export
from packed_sets import packed, silent


@pytest.mark.parametrize("size", [None, 0, 16])
def test_exported_folders_are_the_same_data_set(size: int | None, tmp_path: Path) -> None:
    _, packed_set = packed("shards", 12, tmp_path)
    counts: list[int] = []
    assert export(packed_set, tmp_path / "out", size, counts.append).images == 19 == len(counts)
    again = load(DataConfig(name=str(tmp_path / "out")))
    assert len(again.train) == 12 and len(again.test) == 7
    by_class = {again.classes[label]: file for file, label in zip(again.train.files, again.train.labels, strict=True)}
    for file, label in zip(packed_set.train.files, packed_set.train.labels, strict=True):
        other = by_class[str(label)]
        if size is None:
            assert other.read_bytes() == encoded.read(file).tobytes()
        else:
            with Image.open(other) as image:
                assert min(image.size) == (16 if size else 30)
    original = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.jpg")}
    lost = next(iter(original))
    lost.unlink()
    export(packed_set, tmp_path / "out", size, silent)
    assert lost.exists()
    assert all(file.stat().st_mtime_ns == time for file, time in original.items() if file != lost)

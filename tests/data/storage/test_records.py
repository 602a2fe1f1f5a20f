"""Records: labels, indexes, and damage."""

from pathlib import Path

import pytest

from distdl.core.config import DataConfig
from distdl.data import files as encoded
from distdl.data.sets.load import load
from distdl.data.storage import shards
from shard_files import LABELS, png, refused, rewrite, write_records


def test_records_of_other_programs_are_read(tmp_path: Path) -> None:
    write_records(tmp_path / "train.rec", LABELS)
    assert shards.is_packed(tmp_path)
    raw = load(DataConfig(name=str(tmp_path), normalize="imagenet"))
    labels = {encoded.read(file).tobytes(): int(label) for split in (raw.train, raw.test)
              for file, label in zip(split.files, split.labels, strict=True)}  # fmt: skip
    assert labels == {png(number): label for number, label in enumerate(LABELS)}


@pytest.mark.parametrize("label", [1.7, -1, float("nan"), float("inf"), 1e9])
def test_labels_of_records_are_class_numbers(label: float, tmp_path: Path) -> None:
    write_records(tmp_path / "train.rec", [*LABELS, label])
    refused(tmp_path, "is not a class number")


@pytest.mark.parametrize(
    "index", ["", "0\t0\n", "0\tx\n", "0 0 0\n" * 8, "0\n", "\x00\xff", "0\t-5\n", "0\t" + "9" * 5000]
)
def test_an_index_that_does_not_match_is_refused(index: str, tmp_path: Path) -> None:
    file = write_records(tmp_path / "train.rec", LABELS)
    file.with_suffix(".idx").write_text(index, encoding="latin-1")
    refused(tmp_path, r"train\.idx")
    file.with_suffix(".idx").unlink()
    refused(tmp_path, r"train\.idx is missing")


@pytest.mark.parametrize(("offset", "value"), [(0, 0), (4, 3), (4, 2**28), (4, 2**29 + 100), (8, 2), (4, 0xFFFFFFFF)])
def test_a_damaged_record_is_named(offset: int, value: int, tmp_path: Path) -> None:
    file = write_records(tmp_path / "train.rec", LABELS)
    second = int(file.with_suffix(".idx").read_text().split()[3])
    rewrite(file, value.to_bytes(4, "little"), second + offset)
    refused(tmp_path, f"byte {second}")


def test_truncated_records_are_refused(tmp_path: Path) -> None:
    file = write_records(tmp_path / "train.rec", LABELS)
    content, second = file.read_bytes(), int(file.with_suffix(".idx").read_text().split()[3])
    for length in (0, 10, second, second + 10, len(content) - 5):
        file.write_bytes(content[:length])
        refused(tmp_path, r"train\.(rec|idx)")

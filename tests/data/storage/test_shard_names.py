"""Names of shards: the split of each shard, or an error of one line."""

import os
from pathlib import Path

import pytest

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.sets.load import load
from distdl.data.storage import shards
from shard_files import LABELS, read, refused, samples, write_records, write_tar


@pytest.mark.parametrize("name", ["train-0.tar", "train-0.tar.gz", "train-0.tgz"])
def test_a_compressed_shard_is_refused_with_advice(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / name, samples(LABELS), "w:gz")
    with pytest.raises(UserError, match=r"is compressed by gzip.*gunzip"):
        load(DataConfig(name=str(tmp_path)))


@pytest.mark.parametrize("name", ["carnival-0.tar", "latest-0.tar", "interval/0.tar", "contest_1.tar", "latest/0.tar"])
def test_a_split_name_inside_another_word_does_not_count(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / name, samples(LABELS))
    raw = read(tmp_path)
    assert len(raw.train) + len(raw.test) == 8 and any("20% of each class" in note for note in raw.notes)


def test_splits_are_named_by_file_or_folder(tmp_path: Path) -> None:
    for name, count in (("train/000.tar", 4), ("Val/000.tar", 2), ("my-test-00.tar", 1)):
        write_tar(tmp_path / name, samples([0] * count))
    raw = read(tmp_path)
    assert [len(split) for split in (raw.train, raw.validation, raw.test)] == [4, 2, 1]
    for odd in ("a.tar", "z.tar"):
        write_tar(tmp_path / odd, samples([0]))
        refused(tmp_path, f"{odd} is named neither")
        (tmp_path / odd).unlink()
    write_tar(tmp_path / "train-val.tar", samples([0]))
    refused(tmp_path, "is named train and validation")


FILES = {  # names of files, and images by split or the error
    "training and testing": ("training-0.tar testing-0.tar", "16 - 8"),
    "in capitals": ("TRAIN-0.TAR Test-0.Tar", "16 - 8"),
    "compounds": ("trainset-0.tar devset-0.tar testset-0.tar", "16 8 8"),
    "other names": ("cc_training_0.tar cc_valid_0.tar", "16 - 8"),
    "in folders, at any depth": ("train/a/b/0.tar train-9.tar data/test/0.tar", "32 - 8"),
    "a suffix in capitals": ("train-0.tar train-1.TAR test-0.tar", "32 - 8"),
    "records in folders": ("train/0.rec val/0.rec", "16 - 8"),
    "records in capitals": ("train-0.REC test-0.rec", "16 - 8"),
    "a complete set of numbered shards": ("train-0-of-2.tar train-1-of-2.tar test-00001-of-00001.tar", "32 - 8"),
    "numbered shards in two folders": ("a/train-0-of-2.tar b/train-1-of-2.tar test-0.tar", "32 - 8"),
    "no split name": ("eval-0.tar train-0.tar", "eval-0.tar is named neither"),
    "two split names": ("val/test-0.tar train-0.tar", "is named validation and test"),
    "only a test": ("testing-0.tar", "no shards to train on"),
    "too few": ("train-0-of-3.tar test-0.tar", r"1 of the 3 shards train-NUMBER-of-3 \(number 1, 2 is missing\)"),
    "too few in a split": (
        "train-0.tar test_1_of_2.tar",
        r"1 of the 2 shards test_NUMBER-of-2 \(number 0 is missing\)",
    ),
    "too many": ("train-0-of-2.tar train-1-of-2.tar train-2-of-2.tar", "3 of the 2 shards"),
    "two counts": ("train-0-of-2.tar train-1-of-3.tar", "1 of the 2 shards"),
    "one shard twice": ("train-0.tar train-0.TAR", "have the same name except for the suffix"),
    "tar and records": ("train-0.tar train-0.rec", "have the same name except for the suffix"),
}


@pytest.mark.parametrize("case", FILES)
def test_every_shard_is_read_in_its_split_or_refused(case: str, tmp_path: Path) -> None:
    names, expected = FILES[case]
    for name in names.split():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        labels = LABELS * (2 if "train" in name.lower() else 1)
        write_records(file, labels) if file.suffix.lower() == ".rec" else write_tar(file, samples(labels))
    if expected[0].isdigit() and "of" not in expected:
        raw = load(DataConfig(name=str(tmp_path), normalize="none"))
        sizes = ["-" if split is None else str(len(split)) for split in (raw.train, raw.validation, raw.test)]
        assert " ".join(sizes) == expected
    else:
        refused(tmp_path, expected)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".TAR.ZST", ".tgz", ".tar.part"])
@pytest.mark.parametrize("folder", ["", "train/more/"])
def test_a_shard_of_an_unsupported_format_is_refused(suffix: str, folder: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples(LABELS))
    write_tar(tmp_path / "test-0.tar", samples(LABELS))
    file = tmp_path / f"{folder}train-1{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\x28\xb5\x2f\xfd\0\0" + bytes(2000))
    refused(tmp_path, f"{file} (is compressed by zstd|cannot be read)")


def test_a_shard_that_is_not_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train-1.tar"
    write_tar(tmp_path / "train-0.tar", samples(LABELS))
    for make, message in (
        (lambda: file.symlink_to("gone.tar"), "is a broken link"),
        (lambda: os.mkfifo(file), "is not a file"),
        (lambda: file.mkdir(), "is not a file"),
    ):
        make()
        refused(tmp_path, f"{file} .*{message}")
        assert any(message in fault for fault in shards.verify(tmp_path))
        file.rmdir() if file.is_dir() else file.unlink()

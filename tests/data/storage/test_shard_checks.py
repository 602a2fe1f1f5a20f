"""Damaged, changed or unusual shards and records give all samples or a one-line error, never silently a part."""

import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.data import files as encoded
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.storage import shards
from distdl.data.storage.pack import pack
from distdl.data.storage.tables import SampleTable, read_table, write_table
from shard_files import LABELS, png, read, refused, rewrite, samples, write_tar


@pytest.fixture(params=["shards", "records"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write a packed set of 20 images in two classes."""
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), np.uint8)
    split = ResidentSplit(labels=np.arange(20) % 2, images=images)
    dataset = DataSet(name="pets", classes=("cat", "dog"), train=split, test=split[np.arange(4)], image_size=6,
                      mean=(0.5,) * 3, std=(0.2,) * 3)  # fmt: skip
    pack(dataset, tmp_path / "packed", request.param, 10**6, lambda _: None)
    return tmp_path / "packed"


def shard(folder: Path) -> Path:
    return next(file for file in folder.glob("train-00000.*") if file.suffix in (".tar", ".rec"))


# Labels of shards from other programs


@pytest.mark.parametrize("text", ["{}", "{}\n", " {} ", "{}.0"])
def test_class_numbers_are_read(text: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples(text.format(label) for label in LABELS))
    assert shards.table(tmp_path / "train-0.tar").label.tolist() == LABELS


def test_class_names_are_read(tmp_path: Path) -> None:
    names = ["golden retriever", "Äffchen"]
    write_tar(tmp_path / "train-0.tar", samples(names[label] for label in LABELS))
    write_tar(tmp_path / "train-1.tar", samples(["zebra", names[0]]))
    write_tar(tmp_path / "test-0.tar", samples([names[1]]))
    raw = read(tmp_path)
    assert raw.classes == ("golden retriever", "zebra", "Äffchen")
    assert raw.train.labels.tolist() == [2 * label for label in LABELS] + [1, 0] and raw.test.labels.tolist() == [2]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("-1", "label -1 is negative"),
        ("14407640", "label 14,407,640, but the set has 8 samples"),
        ("3000000000", "label 3000000000 is not a class number"),
        ("1.5", r"label 7\.cls is '1\.5', while others are class numbers"),
        ("cat", r"label 7\.cls is 'cat', while others are class numbers"),
        ("1_0", r"label 7\.cls is '1_0'"),
        ("٣", r"label 7\.cls is '٣'"),
        ("9" * 300, "neither a class number nor a class name"),
        ("", "neither a class number nor a class name"),
        ("a\0b", "neither a class number nor a class name"),
        ("\x1b[31m", "neither a class number nor a class name"),
    ],
)
def test_invalid_labels_are_refused(label: str, message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples([*LABELS[:-1], label]))
    refused(tmp_path, message)


def test_a_label_that_is_not_text_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", [("0.png", png()), ("0.cls", b"\xff\xfe\x00")])
    refused(tmp_path, r"'0\.cls' is neither")


def test_class_numbers_without_a_sample_are_noted(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples([1, 5, 9, 1, 5, 9, 1, 5, 9, 9]))
    raw = read(tmp_path)
    assert len(raw.classes) == 10 and any("7 of the class numbers 0 to 9 have no sample" in note for note in raw.notes)


# Members of shards from other programs


def header(name: str, kind: bytes, target: str = "0.png") -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.type, head.linkname = kind, target
    return head


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([header("8.png", tarfile.LNKTYPE)], r"'8\.png' is a hard link"),
        ([header("8.png", tarfile.SYMTYPE)], r"'8\.png' is a symbolic link"),
        ([header("8.png", tarfile.FIFOTYPE)], r"'8\.png' is a FIFO"),
        ([header("8.png", b"V")], "unknown type"),
        ([("0.png", png())], r"two images with the same key, '0\.png' and '0\.png'"),
        ([("0.jpg", png())], r"two images with the same key, '0\.png' and '0\.jpg'"),
        ([("0.cls", b"0")], "two labels with the same key"),
        ([("8.png", png())], r"image 8 has no label \(a member 8\.cls\)"),
        ([("8.png", png()), ("8.json", b"{}")], r"image 8 has no label \(a member 8\.cls\); there is 8\.json"),
        ([("8.cls", b"0")], r"label 8\.cls has no image"),
        ([("8.heic", b"x"), ("8.cls", b"0")], r"label 8\.cls has no image of a known format; there is 8\.heic"),
        ([("a\n\x1b[31mb.png", png())], r"image a\\n\\x1b\[31mb has no label"),
    ],
)
def test_invalid_members_are_named(members: list, message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", [*samples(LABELS), *members])
    refused(tmp_path, message)


def test_hidden_members_are_omitted_with_a_note(tmp_path: Path) -> None:
    double = b"\0\5\x16\7\0\2\0\0"
    members = [each for name, content in samples(LABELS) for each in ((f"._{name}", double), (name, content))]
    write_tar(
        tmp_path / "train-0.tar",
        [
            header("a", tarfile.DIRTYPE),
            *members,
            ("__MACOSX/._a", double),
        ],
    )
    for _ in range(2):  # scanned, then from the cache
        raw = read(tmp_path)
        assert sorted([*raw.train.labels, *raw.test.labels]) == sorted(LABELS)
        assert any("17 hidden members" in note for note in raw.notes)


def test_an_index_with_another_number_of_samples_is_refused(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "train-0.tar", [*samples(LABELS), ("a/b.json", b"{}")])
    file.with_suffix(".idx").write_text("v1.2 9\n...")
    assert len(shards.table(file)) == 8
    write_tar(tmp_path / "train-0.tar", samples(LABELS))
    refused(tmp_path, r"train-0\.idx lists 9 samples, train-0\.tar has 8")


# Which folders are data sets, and the splits of their files


def test_omitted_and_suspicious_files_are_noted(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (0, 1, 3):
        write_tar(folder / f"train-{number}.tar", samples(LABELS))
    (folder / "test-0.tar").hardlink_to(folder / "train-0.tar")
    for name in ("7.png", "extra.zip", "README.md", "train-0.idx"):
        (folder / name).write_bytes(b"v1.2 8\n")
    write_tar(folder / "more" / "train-0.tar", samples(LABELS))
    notes = "\n".join(read(folder).notes)
    assert f"files that are not shards are left out of {folder}: 7.png, extra.zip\n" in notes
    assert f"{folder} has shards train-* below and above number 2, but not these" in notes
    assert f"{folder}/test-0.tar (test) is the same file as {folder}/train-0.tar (train)" in notes
    assert "train is read from shards with 2 different names: more/train-*, train-*" in notes


def test_a_class_name_only_in_test_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples(["cat", "dog"]))
    write_tar(tmp_path / "test-0.tar", samples(["cat", "cow"]))
    refused(tmp_path, "test-0.tar has label 'cow', which is not a class of the training samples")


def test_a_packed_set_in_a_folder_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "inner" / "train-0.tar", samples(LABELS))
    (tmp_path / "inner" / "set.json").write_text("{}")
    refused(tmp_path, f"{tmp_path}/inner is itself a packed data set")


@pytest.mark.parametrize(
    "label", ["+1", "1e0", "0.5", ".5", "1.", "0,1", "0 1", "1;2", "0x1", "1_0", "٣", "½", '{"label": 1}', "[1]", '"a"']
)
def test_an_unusual_number_is_not_a_class_name(label: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples([label, label, "cat"]))
    refused(tmp_path, r"train-0\.tar: label 0\.cls is '" + re.escape(label))


@pytest.mark.parametrize(
    "label", ["3D", "1st", "A320", "747-400ER", "e5", "true", "nan", "Infinity", "[unknown]", "十"]
)
def test_names_with_digits_stay_names(label: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples([label] * 4))
    assert read(tmp_path).classes == (label,)


@pytest.mark.parametrize("leftover", ["images.tar", "train.tar", "cat/cat.tar"])
def test_class_folders_with_a_leftover_tar_are_not_shards(leftover: str, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.png").write_bytes(png())
    assert not shards.is_packed(tmp_path)
    write_tar(tmp_path / leftover, [("cat/0.png", png())])
    assert not shards.is_packed(tmp_path)
    for label in ("cat", "dog"):
        (tmp_path / label / "0.png").unlink()
    assert shards.is_packed(tmp_path)


# Records from other programs


# Packed sets: set.json, checksums and tables


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_rewritten_shard_with_checksum_is_refused(table: bool, loaded: bool, packed: Path) -> None:
    if loaded:
        read(packed)
    if not table:
        (packed / "train-00000.npz").unlink()
    file = shard(packed)
    rewrite(file, b"\xff\xff", file.stat().st_size // 2)
    refused(packed, f"{file.name} differs from the SHA-256 in set.json")


def test_a_rewritten_shard_without_checksum_is_read_again(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "train-0.tar", samples(LABELS))
    assert shards.table(file).label.tolist() == LABELS
    with tarfile.open(file) as tar:
        places = [member.offset_data for member in tar if member.name.endswith(".cls")]
    for place, label in zip(places, LABELS, strict=True):
        rewrite(file, str(1 - label).encode(), place)
    assert shards.table(file).label.tolist() == [1 - label for label in LABELS]


def test_the_checksum_is_computed_once_per_version(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[str] = []
    computed = shards.file_sum
    monkeypatch.setattr(shards, "file_sum", lambda path: sums.append(path.name) or computed(path))
    read(packed)
    assert len(sums) == 2
    read(packed)
    assert len(sums) == 2
    shard(packed).touch()
    read(packed)
    assert sums[2:] == [shard(packed).name]


@pytest.mark.parametrize(
    "change",
    [
        {"label": np.full(20, 10**9)},
        {"label": np.full(20, -1)},
        {"offset": np.full(20, -5)},
        {"size": np.full(20, -1)},
        {"size": np.zeros(20, np.int64)},
        {"offset": np.full(20, 2**63 - 10), "size": np.full(20, 100)},
        {"label": np.zeros(20, np.int64), "sha256": "0" * 64},
        {"label": np.zeros((20, 1), np.int64)},
        {"label": np.zeros(20)},
        {"label": np.zeros(19, np.int64)},
    ],
)
def test_a_table_that_does_not_match_is_rebuilt(change: dict, packed: Path) -> None:
    expected = read(packed)
    file = shard(packed)
    file.touch()  # invalidates the cache
    sums = {each.file: each.sha256 for each in shards.read_set_file(packed).shards()}
    rows = read_table(file.with_suffix(".npz"), file.stat().st_size, sums[file.name])
    columns = {name: getattr(rows, name) for name in ("offset", "size", "label", "sha256")}
    write_table(file.with_suffix(".npz"), SampleTable(**columns | change))
    result = read(packed) if change.keys() != {"label"} or change["label"].max() < 10**9 else None
    if result is None:
        refused(packed, "label 1,000,000,000, but the set has 2 classes")
        return
    assert result.train.labels.tolist() == expected.train.labels.tolist()
    assert result.train.files.offset.tolist() == expected.train.files.offset.tolist()


def test_a_damaged_table_is_rebuilt(packed: Path) -> None:
    expected = read(packed).train
    table_file = packed / "train-00000.npz"
    content = table_file.read_bytes()
    for number, damaged in enumerate([b"", content[:-30], b"PK", content[::-1], bytes(len(content)), b"\x93NUMPY"]
                                     + [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
                                        for at in range(0, len(content), len(content) // 9)]):  # fmt: skip
        table_file.write_bytes(damaged)
        os.utime(shard(packed), ns=(number, number))
        result = read(packed).train
        assert result.labels.tolist() == expected.labels.tolist()
        assert result.files.offset.tolist() == expected.files.offset.tolist()


def test_tables_of_version_1_are_not_used(packed: Path) -> None:
    expected = read(packed).train.labels.tolist()
    np.savez(
        packed / "train-00000.npz",
        offset=np.zeros(20, np.int64),
        size=np.ones(20, np.int64),
        label=np.zeros(20, np.int64),
    )
    shard(packed).touch()
    assert read(packed).train.labels.tolist() == expected


def test_set_json_is_compared_with_the_files(packed: Path) -> None:
    described = json.loads((packed / "set.json").read_text())
    del described["digest"]
    row = described["parts"]["train"][0]
    for change, message in (
        ({"samples": 999}, "has 20 samples, but 999 according to set.json"),
        ({"bytes": 5}, "bytes of 5"),
        ({"sha256": "0" * 64}, "differs from the SHA-256"),
        ({"file": "x" + row["file"]}, "is missing"),
    ):
        changed = described | {"parts": described["parts"] | {"train": [row | change]}}
        (packed / "set.json").write_text(json.dumps(changed))
        refused(packed, message)
        assert any(message in fault for fault in shards.verify(packed))
    (packed / "set.json").write_text(json.dumps(described | {"classes": ["cat"]}))
    refused(packed, "label 1, but the set has 1 classes")


def test_a_packed_set_without_set_json_is_refused(packed: Path) -> None:
    (packed / "set.json").unlink()
    refused(packed, r"was packed by distdl .* no set\.json")
    for table in packed.glob("*.npz"):
        table.unlink()
    for index in packed.glob("t*t.idx"):
        index.unlink()
    assert read(packed).classes == ("0", "1")


def test_verify_lists_every_fault(packed: Path) -> None:
    assert list(shards.verify(packed)) == []
    np.savez(packed / "train-00000.npz", label=np.zeros(3))
    rewrite(shard(packed).with_stem("test-00000"), b"\xff\xff", 700)
    faults = list(shards.verify(packed))
    assert len(faults) == 2 and all("\n" not in fault for fault in faults)
    assert "train-00000.npz does not match" in faults[0] and "differs from the SHA-256" in faults[1]
    (packed / "set.json").write_text("[]")
    assert len(list(shards.verify(packed))) == 1
    shutil.rmtree(packed)
    write_tar(packed / "train-0.tar", samples(LABELS))
    assert list(shards.verify(packed)) == []
    write_tar(packed / "train-1.tar", samples(LABELS))
    rewrite(packed / "train-1.tar", b"\1", 5)
    assert len(list(shards.verify(packed))) == 1


def test_names_that_set_json_cannot_hold_are_refused_before_packing(tmp_path: Path) -> None:
    split = ResidentSplit(labels=np.zeros(2, np.int64), images=np.zeros((2, 4, 4, 3), np.uint8))
    dataset = DataSet(name="odd", classes=("a\nb",), train=split, test=split, image_size=4)
    with pytest.raises(UserError, match=r"class 'a\\nb' cannot be packed"):
        pack(dataset, tmp_path / "out", "shards", 10**6, lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(encoded.Unreadable, match="is not a regular file"):
        encoded.read(tmp_path / "0.png")

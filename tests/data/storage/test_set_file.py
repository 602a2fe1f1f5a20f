"""Schema of set.json: a missing key, a wrong type or a value out of range is a one-line error that names the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from distdl.core.errors import UserError
from distdl.data.storage.set_file import MANIFEST, read_set_file, validate, write_set_file

SHARD = {"file": "train-00000.tar", "samples": 3, "bytes": 4096, "sha256": "0" * 64}
GOOD: dict[str, Any] = {
    "name": "pets", "kind": "shards", "classes": ["cat", "dog"], "channels": 3, "image_size": 32, "central": 1.0,
    "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "parts": {"train": [SHARD]},
}  # fmt: skip


def write(folder: Path, content: object) -> None:
    (folder / MANIFEST).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "tar"), ("kind", None),
        ("classes", []), ("classes", [1, 2]), ("classes", ["a", "a"]), ("classes", ["a\0b", "c"]),
        ("classes", ["", "a"]),
        ("classes", ["a\nb"]), ("classes", "ab"), ("classes", ["\x1b[31mred"]), ("classes", {"a": 0}),
        ("channels", 9), ("channels", "3"), ("channels", 0), ("channels", None),
        ("image_size", "big"), ("image_size", -5), ("image_size", 0), ("image_size", 60_000), ("image_size", 32.5),
        ("central", 1e9), ("central", 0), ("central", None), ("central", "1"),
        ("mean", None), ("mean", "abc"), ("mean", [0.5, 0.5]), ("mean", [float("nan")] * 3), ("mean", [[0.5]] * 3),
        ("std", [0, 0, 0]), ("std", [-1, 1, 1]), ("std", [float("inf")] * 3), ("std", []),
        ("parts", [1]), ("parts", {}), ("parts", {"train": []}), ("parts", {"train": {}}),
        ("parts", {"trian": [SHARD]}),
        ("parts", {"test": [SHARD]}), ("parts", {"train": [SHARD, SHARD]}), ("parts", None),
    ],
)  # fmt: skip
def test_a_key_out_of_range_is_named(key: str, value: object, tmp_path: Path) -> None:
    write(tmp_path, GOOD | {key: value})
    with pytest.raises(UserError) as error:
        read_set_file(tmp_path)
    assert f"{tmp_path / MANIFEST} does not describe a packed set: " in str(error.value)
    assert key in str(error.value) and "\n" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", 3), ("file", "../x.tar"), ("file", "/x.tar"), ("file", "a/x.tar"), ("file", "x.rec"), ("file", ""),
        ("samples", "9"), ("samples", 0), ("samples", -1), ("samples", 1.5), ("samples", 10**30), ("bytes", None),
        ("bytes", -4), ("sha256", "0"), ("sha256", "g" * 64), ("sha256", 5),
    ],
)  # fmt: skip
def test_a_shard_out_of_range_is_named(key: str, value: object, tmp_path: Path) -> None:
    write(tmp_path, GOOD | {"parts": {"train": [SHARD | {key: value}]}})
    with pytest.raises(UserError, match="parts") as error:
        read_set_file(tmp_path)
    assert "\n" not in str(error.value)
    lacking = {name: field for name, field in SHARD.items() if name != key}
    write(tmp_path, GOOD | {"parts": {"train": [lacking]}})
    with pytest.raises(UserError, match=rf"parts\.train\.0\.{key}: Field required"):
        read_set_file(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", "[" * 200_000, '{"a":' * 5000, "\ufeff{}", '"\ud800"'])
def test_invalid_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=r"set\.json") as error:
        read_set_file(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_written_file_is_read_back_and_a_change_is_detected(tmp_path: Path) -> None:
    described = validate(json.dumps(GOOD).encode(), "")
    write_set_file(tmp_path, described)
    read = read_set_file(tmp_path)
    assert read.model_copy(update={"digest": ""}) == described
    changed = json.loads((tmp_path / MANIFEST).read_text()) | {"classes": ["car", "dog"]}
    write(tmp_path, changed)
    with pytest.raises(UserError, match=r'was changed after packing.*"digest"'):
        read_set_file(tmp_path)
    del changed["digest"]
    write(tmp_path, changed)
    assert read_set_file(tmp_path).classes == ("car", "dog")


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert read_set_file(tmp_path).classes == ("cat", "dog")
    assert read_set_file(tmp_path / "nowhere") is None


def test_a_file_beyond_256_mib_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as sink:
        sink.truncate(2**28 + 1)  # takes no space on the disk
    with pytest.raises(UserError, match="it has more than 268,435,456 bytes"):
        read_set_file(tmp_path)

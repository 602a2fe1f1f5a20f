"""Locations of encoded images, and their bytes."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from distdl.data.files import FilePaths, Part, ShardParts, Unreadable, compact, paths_of, read, take


def test_a_file_is_read_completely(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\1\xff")
    content = read(tmp_path / "a")
    assert content.dtype == np.uint8 and content.tolist() == [0, 1, 255]


@pytest.mark.parametrize(("offset", "size", "content"), [(0, 3, [0, 1, 2]), (2, 1, [2]), (7, 3, [7, 8, 9])])
def test_a_part_is_read_at_its_offset(offset: int, size: int, content: list[int], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(10)))
    assert read(Part(tmp_path / "a", offset, size)).tolist() == content


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [(8, 3, "at byte 8 has 2 bytes of 3"), (10, 1, "at byte 10 has 0 bytes of 1"), (3, 0, "at byte 3 is empty")],
)
def test_a_truncated_part_is_unreadable(offset: int, size: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    with pytest.raises(Unreadable, match=f"^{tmp_path}/a {message}$"):
        read(Part(tmp_path / "a", offset, size))


def test_an_empty_missing_or_special_file_is_unreadable_and_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer
    for name, reason in (
        ("empty", " is empty"),
        ("gone", ": No such file or directory"),
        ("fifo", ": it is not a regular file"),
        ("folder", ": Is a directory"),
    ):
        with pytest.raises(Unreadable, match=f"^{tmp_path}/{name}{reason}$"):
            read(tmp_path / name)
    for large in (tmp_path / "large", Part(tmp_path / "large", 0, 2**40)):
        with (tmp_path / "large").open("wb") as sink:
            sink.truncate(2**40)  # a sparse file, which takes no space on the disk
        with pytest.raises(Unreadable, match=r"large.* has 1,099,511,627,776 bytes: an image may have at most 1,073"):
            read(large)
    with pytest.raises(Unreadable, match="gone at byte 0: No such file"):
        read(Part(tmp_path / "gone", 0, 1))


names = some.binary(min_size=1, max_size=9).filter(lambda name: b"\0" not in name and name.strip(b"./"))


@settings(max_examples=40)
@given(some.lists(names, max_size=5))
def test_paths_are_restored_from_their_arrays(texts: list[bytes]) -> None:
    """Names need not be UTF-8."""
    paths = [Path(os.fsdecode(text)) for text in texts]
    stored = FilePaths(paths)
    assert len(stored) == len(paths) and list(stored) == paths
    assert [stored[index] for index in range(-len(paths), 0)] == paths
    for outside in (len(paths), -len(paths) - 1):
        with pytest.raises(IndexError):
            stored[outside]


@some.composite
def shard_parts(draw: some.DrawFn) -> ShardParts:
    """Contiguous images in one to three files."""
    number, offset, size = [], [], []
    for file in range(draw(some.integers(1, 3))):
        at = 0
        for length in draw(some.lists(some.integers(1, 40), min_size=1, max_size=9)):
            number.append(file)
            offset.append(at)
            size.append(length)
            at += length + draw(some.integers(0, 3))
    arrays = (np.array(values, np.int64) for values in (number, offset, size))
    return ShardParts([Path(f"{letter}.tar") for letter in "abc"], *arrays)


@settings(max_examples=40)
@given(shard_parts(), some.integers(1, 60))
def test_blocks_are_runs_of_images_that_begin_in_the_same_block_of_a_file(parts: ShardParts, block: int) -> None:
    bounds = parts.blocks(block)
    assert bounds[0] == 0 and bounds[-1] == len(parts) and (np.diff(bounds) > 0).all()
    place = [(part.path, part.offset // block) for part in parts]
    assert len({place[first] for first in bounds[:-1]}) == len(bounds) - 1 == len(set(place))
    for first, end in itertools.pairwise(bounds):
        assert len(set(place[first:end])) == 1


@settings(max_examples=40)
@given(shard_parts(), some.data())
def test_parts_are_selected_by_position(parts: ShardParts, data: some.DataObject) -> None:
    indices = np.array(data.draw(some.lists(some.integers(0, len(parts) - 1), max_size=9)), np.int64)
    rows = [parts[index] for index in indices]
    taken = take(parts, indices)
    assert isinstance(taken, ShardParts) and list(taken) == rows and taken.paths == parts.paths
    assert all(type(row.offset) is int for row in rows)  # for messages and np.fromfile
    assert str(parts[0]) == "a.tar at byte 0"


def test_files_are_selected_by_position() -> None:
    paths = [Path(letter) for letter in "abc"]
    for files in (paths, FilePaths(paths)):
        assert take(files, np.array([2, 0, 2])) == [Path("c"), Path("a"), Path("c")]
        assert list(paths_of(files)) == paths
    parts = ShardParts([Path("a.tar")], *(np.zeros(2, np.int64) for _ in range(3)))
    assert paths_of(parts) == (Path("a.tar"),) and compact(parts) is parts


def test_files_are_stored_in_arrays_that_processes_share(tmp_path: Path) -> None:
    names = [tmp_path / f"ü{number}.jpg" for number in range(99)]
    paths = compact(names)
    assert list(paths) == names and paths[-1] == names[-1] and len(paths) == 99
    with pytest.raises(IndexError):
        paths[99]
    assert compact(paths) is paths

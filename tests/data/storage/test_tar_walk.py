"""Scan of a tar archive: every member, or an error that names the byte; never a silent part."""

import gzip
import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from distdl.data.storage.tar_walk import BLOCK, DamagedTar, FileSource, StreamSource, walk

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def archive(names: list[str], sizes: list[int], kind: int) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as tar:
        for name, size in zip(names, sizes, strict=True):
            head = tarfile.TarInfo(name)
            head.size = size
            tar.addfile(head, io.BytesIO(b"\7" * size))
    return sink.getvalue()


def walked(content: bytes) -> list[tuple[str, int, int]]:
    return [(member.name, member.offset, member.size) for member in walk(StreamSource(io.BytesIO(content)))]


def by_tarfile(content: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(member.name, member.offset_data, member.size) for member in tar]


@pytest.mark.parametrize("kind", FORMATS[1:])
def test_members_match_those_of_tarfile(kind: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        names = ["".join(rng.choice(list("aä語 .-_"), rng.integers(1, 150))) for _ in range(rng.integers(7))]
        content = archive(names, rng.integers(0, 2000, len(names)).tolist(), kind)
        assert walked(content) == by_tarfile(content)


def test_a_file_and_a_stream_give_the_same_members(tmp_path: Path) -> None:
    content = archive(["a", "b" * 200], [5000, 3], tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(content)
    with (tmp_path / "a.tar").open("rb") as file:
        expected = list(walk(FileSource(file)))
    assert list(walk(StreamSource(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(content)))))) == expected


@pytest.mark.parametrize("kind", FORMATS)
def test_a_flipped_bit_in_a_header_changes_no_member_silently(kind: int) -> None:
    """After a flip of any header bit, the members are the same or the archive is refused."""
    content = archive(["a.jpg", "b.cls"], [600, 1], kind)
    expected = walked(content)
    starts = [offset - BLOCK for _, offset, _ in expected]
    refused = 0
    for bit in range(0, 2 * BLOCK * 8, 3):
        damaged = bytearray(content)
        damaged[starts[bit % 2] + bit // 16] ^= 1 << bit // 2 % 8
        try:
            assert walked(bytes(damaged)) == expected
        except DamagedTar:
            refused += 1
    assert refused > 0.95 * 2 * BLOCK * 8 / 3


def test_truncation_or_a_lost_block_changes_no_member_silently() -> None:
    content = archive([f"{number}.jpg" for number in range(9)], [700] * 9, tarfile.GNU_FORMAT)
    end = walked(content)[-1][1] + 2 * BLOCK
    for length in range(0, end + 2 * BLOCK, 97):
        with pytest.raises(DamagedTar):
            walked(content[:length])
    for start in range(0, end - BLOCK - 700, 331):
        hole = content[:start] + bytes(BLOCK) + content[start + BLOCK :]
        try:
            assert walked(hole) == walked(content)  # within a member's content
        except DamagedTar as error:
            assert "byte" in str(error) or not start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tar: tar + tar, "several archives were joined"),
        (lambda tar: tar[: 2 * BLOCK], "no end marker at byte 1,024"),
        (lambda tar: tar[: 2 * BLOCK] + bytes(BLOCK), "no end marker at byte 1,024"),
        (lambda tar: tar + b"\1", "has data at byte 10,240"),
        (lambda tar: b"", "it is empty"),
        (lambda tar: b"no archive" * 99, "does not begin with a valid header"),
        (lambda tar: bytes([tar[0] ^ 1]) + tar[1:], "does not begin with a valid header"),
    ],
)
def test_bytes_before_and_after_the_members_are_checked(change, message: str) -> None:
    with pytest.raises(DamagedTar, match=message):
        walked(change(archive(["a"], [100], tarfile.USTAR_FORMAT)))


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_sparse_members_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "holes.bmp").open("wb") as file:
        file.write(b"BM")
        file.truncate(300_000)
    subprocess.run(["tar", "--sparse", f"--format={kind}", "-cf", "a.tar", "holes.bmp"], cwd=tmp_path, check=True)
    with pytest.raises(DamagedTar, match=r"holes\.bmp.* is a sparse file"):
        walked((tmp_path / "a.tar").read_bytes())


@pytest.mark.parametrize("size", ["-5", "1e3", "9" * 30, ""])
def test_sizes_of_extension_headers_are_checked(size: str) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        head = tarfile.TarInfo("a")
        head.pax_headers = {"size": size}
        tar.addfile(head)
    with pytest.raises(DamagedTar, match="cannot be read"):
        walked(sink.getvalue())


def test_random_bytes_are_refused() -> None:
    for seed in range(200):
        with pytest.raises(DamagedTar):
            walked(np.random.default_rng(seed).bytes(2048))


def test_a_member_without_content_has_the_offset_at_which_content_would_begin() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name in ("a", "b"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    assert walked(sink.getvalue()) == by_tarfile(sink.getvalue()) == [("a", BLOCK, 0), ("b", 2 * BLOCK, 0)]

"""Archives of image folders: unpacked completely, or refused in one line without leftover files."""

import os
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.sets.load import load, source_of
from distdl.data.storage import archives
from distdl.data.storage.archives import extract
from distdl.data.storage.download import build
from shard_files import png, samples, write_records, write_tar

FILES = {f"{label}/{number}.png": png(number) for label in ("cat", "dog") for number in range(4)}


def write_zip(file: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", kind) as zipped:
        for name, content in files.items():
            zipped.writestr(zipfile.ZipInfo(name), content, kind)
    return file


MODES = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz", ".txz": "xz", ".tar.bz2": "bz2", ".tbz2": "bz2"}


def write(folder: Path, suffix: str, files: dict[str, bytes]) -> Path:
    file = folder / f"set{suffix}"
    if suffix.lower() == ".zip":
        return write_zip(file, files)
    return write_tar(file, files.items(), f"w:{MODES[suffix]}")


def unpacked(file: Path) -> dict[str, bytes]:
    folder = build(file.parent / "unpacked", lambda scratch: extract(file, scratch))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(file: Path, message: str) -> None:
    """Assert that the archive is refused in one line and that no unpacked file remains."""
    with pytest.raises(UserError, match=message) as error:
        unpacked(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)
    assert not list(file.parent.glob("*unpacked*"))


@pytest.mark.parametrize("suffix", [".zip", ".ZIP", *MODES])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"__MACOSX/set/cat/._0.png": b"\0\5\x16\7", "set/cat/._0.png": b"\0\5\x16\7", "set/.DS_Store": b"x"},
        {"README": b"Read me", "LICENSE.md": b"MIT", "labels.csv": b"0,cat"},
    ],
)
def test_a_single_top_folder_is_the_data_set(suffix: str, more: dict[str, bytes], tmp_path: Path) -> None:
    write(tmp_path, suffix, {f"set/{name}": content for name, content in FILES.items()} | more)
    result = load(DataConfig(name=str(tmp_path / f"set{suffix}"), normalize="imagenet", image_size=6))
    assert result.classes == ("cat", "dog") and len(result.train) + len(result.test) == 8


def test_split_lists_stay_next_to_the_folder(tmp_path: Path) -> None:
    files = {f"images/{name}": content for name, content in FILES.items()} | {"train.txt": b"cat/0.png\n"}
    assert unpacked(write_zip(tmp_path / "a.zip", files)).keys() == files.keys()


def test_names_with_backslashes_are_paths(tmp_path: Path) -> None:
    files = {name.replace("/", "\\"): content for name, content in FILES.items()}
    assert unpacked(write_zip(tmp_path / "a.zip", files)) == FILES


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/a.png", "..\\a.png", "C:\\a.png", "\\\\host\\a.png"])
def test_no_member_is_written_outside(name: str, tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", FILES | {name: b""}), "outside the folder")
    if "\\" not in name and ".." in name:  # tar strips the slash of an absolute name
        refused(write_tar(tmp_path / "a.tar", [(name, b"")]), "cannot be unpacked")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("cat/0.png")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    refused(tmp_path / "a.zip", r"'cat/0\.png' is a link")


def test_hard_links_in_a_tar_are_files(tmp_path: Path) -> None:
    link = tarfile.TarInfo("cat/1.png")
    link.type, link.linkname = tarfile.LNKTYPE, "cat/0.png"
    write_tar(tmp_path / "a.tar", [("cat/0.png", png()), link, ("dog/0.png", png())])
    assert unpacked(tmp_path / "a.tar") == dict.fromkeys(["cat/0.png", "cat/1.png", "dog/0.png"], png())


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(8, 1, "is encrypted"), (10, 9, "compression"), (10, 99, "compression"), (16, 1, "CRC|Bad")],
)  # of the central directory: flags, method (deflate64, AES), checksum
def test_zips_that_cannot_be_read_are_refused(offset: int, value: int, message: str, tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", FILES).read_bytes())
    directory = content.index(b"PK\1\2")
    struct.pack_into("<H", content, directory + offset, value)
    struct.pack_into("<H", content, offset - 2, value)
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", message)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz"])
def test_a_damaged_archive_is_refused(suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path, suffix, FILES)
    content = file.read_bytes()
    for place in range(30, len(content) - 30, len(content) // 12):
        file.write_bytes(
            content[:place] + bytes(each ^ 0x55 for each in content[place : place + 8]) + content[place + 8 :]
        )
        refused(file, "cannot be unpacked")
        file.write_bytes(content[:place])
        refused(file, "cannot be unpacked")


def test_a_truncated_or_damaged_tar_is_refused(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "a.tar", FILES.items()).read_bytes()
    header = content.index(b"dog/0.png")
    for damaged in (content[:header], content[:header] + b"\1" + content[header + 1 :], content + content,
                    content[:header] + bytes(512) + content[header + 512 :]):  # fmt: skip
        (tmp_path / "a.tar").write_bytes(damaged)
        refused(tmp_path / "a.tar", "byte")


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 2**20)
    for suffix in (".zip", ".tar.gz", ".tar.xz"):
        refused(
            write(tmp_path, suffix, {"cat/0.png": bytes(5 * 2**20)}), "too many for an archive of images of its size"
        )
    monkeypatch.setattr(archives, "FREE_SHARE", 1e-12)
    refused(write(tmp_path, ".tar", FILES), "half of the free space")
    monkeypatch.undo()
    monkeypatch.setattr(archives, "MEMBERS", 3)
    refused(write(tmp_path, ".tar", FILES), "more than 3 members")
    refused(write(tmp_path, ".zip", FILES), "more than 3 members")


def test_a_folder_that_another_process_completed_first_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes with different caches share no lock, so the second may find the folder of the first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    begun, go = threading.Event(), threading.Event()
    other = (
        "import sys; from pathlib import Path; from distdl.data.storage.download import build\n"
        "build(Path(sys.argv[1]), lambda scratch: (scratch / 'whose').write_text('other'))"
    )

    def fill(scratch: Path) -> None:
        (scratch / "whose").write_text("ours")
        begun.set()
        assert go.wait(120)

    results: list[Path] = []
    thread = threading.Thread(target=lambda: results.append(build(tmp_path / "set", fill)))
    thread.start()
    assert begun.wait(120)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "second"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", other, tmp_path / "set"], env=environ, check=True)
    go.set()
    thread.join(120)
    assert results == [tmp_path / "set"] and (tmp_path / "set" / "whose").read_text() == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second", "set"]


def test_an_invalid_archive_is_refused(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz"):
        for content in (b"", b"no archive", bytes(2000), b"\x1f\x8b\x08\x00", b"\xfd7zXZ\0", b"PK\3\4"):
            (tmp_path / name).write_bytes(content)
            if content != bytes(2000):  # two blocks of zeros are an empty tar archive
                refused(tmp_path / name, "cannot be unpacked")


def test_a_gzipped_tar_may_be_named_tar(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", FILES.items(), "w:gz")
    assert unpacked(tmp_path / "a.tar") == FILES


def members(kind: str, tmp_path: Path) -> dict[str, bytes]:
    """Files of a set of shards, as its archive has them."""
    folder = tmp_path / "made"
    if kind == "records":
        folder.mkdir()
        write_records(folder / "train-0.rec", [0, 1, 0, 1])
        write_records(folder / "test-0.rec", [0, 1])
    else:
        prefix = {"shards": "", "shards in folders": "train/"}[kind]
        write_tar(folder / f"{prefix}train-0.tar", samples([0, 1, 0, 1]))
        write_tar(folder / "test-0.tar", samples([0, 1]))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", ["shards", "records", "shards in folders"])
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.bz2"])
def test_an_archive_of_shards_is_a_set(suffix: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path, suffix, {f"set/{name}": content for name, content in members(kind, tmp_path).items()})
    name = str(tmp_path / f"set{suffix}")
    result = load(DataConfig(name=name, normalize="none"))
    assert (len(result.train), len(result.test)) == (4, 2)
    source = source_of(name)
    assert source.packed and source.text == f"shards of {name}"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train-0-of-2.tar": b"x"}, "has 1 of the 2 shards"),
        ({"train-0.tar": bytes(2000)}, r"train-0\.tar"),
        ({"1.png": b"x"}, "has no images to train on"),
        (FILES | {"train-0.tar": b"x"}, "can be read in two ways"),
        ({"cat/0.png": b"x", "dog/0.png": b"x"}, "leaves none for the test"),
        ({"cat/0.png": b"x", "cat/1.png": b"x", "dog/0.png": b"x"}, r"cat/.\.png"),
    ],
)
def test_errors_and_notes_name_the_archive(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    name = str(write_zip(tmp_path / "a.zip", files))
    with pytest.raises(UserError, match=f"{name}.*{message}") as error:
        load(DataConfig(name=name))
    assert "cache" not in str(error.value)
    notes = load(DataConfig(name=str(write_zip(tmp_path / "b.zip", FILES)), normalize="none")).notes
    assert notes == (
        f"20% of each class are the test split, selected by data.split_seed: {tmp_path}/b.zip has no test split",
    )


@pytest.mark.parametrize("name", ["a.7z", "a.tar.zst", "a.rar", "a.png", "a"])
def test_a_file_of_another_format_is_refused_with_the_known_formats(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=rf"{name} is a file, but not an archive that can be read \(\.zip, \.tar, "):
        load(DataConfig(name=str(tmp_path / name)))


@pytest.mark.parametrize("name", ["", "flowers"])
def test_a_replaced_archive_is_unpacked_again(name: str, tmp_path: Path) -> None:
    file = tmp_path / "flowers.zip"
    for label in ("cat", "cow"):
        files = {name.replace("cat", label): content for name, content in FILES.items()}
        write_zip(tmp_path / "new.zip", files, zipfile.ZIP_STORED)
        os.utime(tmp_path / "new.zip", ns=(0, 0))
        (tmp_path / "new.zip").replace(file)
        assert label in load(DataConfig(name=name or str(file), root=tmp_path, normalize="none")).classes

"""Unpacking of image archives: completely or not at all, and only up to a limited part of the disk's free space."""

import bz2
import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from distdl.core.errors import UserError, reason
from distdl.core.paths import is_inside
from distdl.core.regular import open_regular, require_regular
from distdl.data.storage.split_names import split_of_list
from distdl.data.storage.tar_walk import DamagedTar, FileSource, StreamSource, walk

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
SHARD = re.compile(
    r"\.((tar|rec)(\.(gz|bz2|xz|zstd?|lz4|lzma|lz|br|z|part|partial|tmp|crdownload))?|tgz|tbz2?|txz|tzst)$",
    re.IGNORECASE,
)
"""Suffixes of shards and records, including compressed and partial files, which are refused instead of left out."""
FREE_SHARE = 0.5
"""Share of the disk's free space, in bytes and in files, that an archive may use."""
RATIO, RATIO_FROM_BYTES = 200, 2**30
"""An archive of images unpacks to about its own size. One that unpacks to RATIO times its size and to more than
RATIO_FROM_BYTES is assumed to be a decompression bomb."""
MEMBERS = 20_000_000
"""Maximum number of members of an archive. ImageNet-21k has 14 million images."""
DOCUMENTS = {".txt", ".md", ".rst", ".pdf", ".html", ".json", ".csv", ".xml", ".yaml"}
"""Suffixes of files that describe a set and are not read."""
NO_LINK_TYPES = (0, stat.S_IFREG, stat.S_IFDIR)


def is_archive(path: Path) -> bool:
    """Whether a file's name has the suffix of an archive, in upper or lower case."""
    return path.name.lower().endswith(ARCHIVES)


def extract(archive: Path, folder: Path) -> None:
    """Unpack an archive into `folder`. If the archive has a single top folder, its content is moved up.

    All headers of a tar archive are checked before the first file is written; the checksums of a zip archive's members
    are verified while they are written. `__MACOSX` and `._NAME` of macOS are left out.

    Raises:
        UserError: the archive is damaged, encrypted, compressed by an unknown method or too large, or a member would be
            written outside the folder. The caller must then remove `folder`.
    """
    scratch = Path(tempfile.mkdtemp(dir=folder))
    unpack = _unpack_zip if archive.name.lower().endswith(".zip") else _unpack_tar
    try:
        unpack(archive, scratch, _Limit(archive, folder))
        content = _single_folder(scratch)
        for child in list(content.iterdir()):
            child.rename(folder / child.name)
    except UserError:
        raise
    except DamagedTar as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from None
    except Exception as error:  # zlib, lzma, zipfile and tarfile raise far more than they document
        raise UserError(f"{archive} cannot be unpacked: {reason(error)}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Limit:
    """Counts members and bytes of an archive, and refuses the archive when a limit is exceeded."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.members, self.bytes = archive, 0, 0
        disk = os.statvfs(folder)
        self.free_bytes = int(disk.f_bavail * disk.f_frsize * FREE_SHARE)
        self.free_files = int(disk.f_favail * FREE_SHARE) if disk.f_files else MEMBERS
        self.ratio_bytes = max(RATIO_FROM_BYTES, RATIO * archive.stat().st_size)

    def add(self, size: int) -> None:
        """Count one member of `size` bytes."""
        self.members += 1
        self.bytes += size
        if self.bytes > self.free_bytes:
            raise UserError(
                f"{self.archive} unpacks to more than {self.free_bytes:,} bytes, half of the free space: "
                "unpack it yourself on a larger disk and use the folder's path"
            )
        if self.bytes > self.ratio_bytes:
            raise UserError(
                f"{self.archive} unpacks to more than {self.ratio_bytes:,} bytes, too many for an archive of images of "
                "its size: if you trust it, unpack it yourself and use the folder's path"
            )
        if self.members > min(MEMBERS, self.free_files):
            raise UserError(
                f"{self.archive} has more than {min(MEMBERS, self.free_files):,} members: unpack it yourself, or pack "
                "the set into shards"
            )


def _unpack_zip(archive: Path, folder: Path, limit: _Limit) -> None:
    require_regular(archive)
    with zipfile.ZipFile(archive) as zipped:
        members = [(entry, name) for entry in zipped.infolist() if not _of_macos(name := _zip_name(archive, entry))]
        for entry, name in members:
            limit.add(entry.file_size)
            if entry.flag_bits & 1:
                raise UserError(
                    f"{archive} is encrypted (member {name!r}): unpack it yourself and use the folder's path"
                )
            if stat.S_IFMT(entry.external_attr >> 16) not in NO_LINK_TYPES:
                raise UserError(
                    f"{archive}: its member {name!r} is a link: unpack it yourself and use the folder's path"
                )
        for entry, name in members:
            target = folder / name
            if name.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(entry) as source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink, 2**20)  # reading to the end verifies the checksum


def _zip_name(archive: Path, entry: zipfile.ZipInfo) -> str:
    """Return a member's name with "/" as separator: some Windows programs write backslashes."""
    name = entry.filename.replace("\\", "/")
    if not is_inside(name) or name[1:2] == ":":
        raise UserError(f"{archive}: its member {entry.filename!r} would be written outside the folder")
    return name


def _unpack_tar(archive: Path, folder: Path, limit: _Limit) -> None:
    with _tar_stream(archive) as (stream, seekable):
        for member in walk(FileSource(stream) if seekable else StreamSource(stream)):
            limit.add(member.size)
    with tarfile.open(archive) as tar:
        tar.extractall(
            folder,
            filter=lambda member, path: None if _of_macos(member.name) else tarfile.data_filter(member, path),
        )


@contextlib.contextmanager
def _tar_stream(archive: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open an archive as a stream of bytes and a flag whether it can seek. Compression is detected from the content."""
    with open_regular(archive) as file:
        start = file.read(6)
        file.seek(0)
        openers: dict[bytes, Callable[[IO[bytes]], gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File]] = {
            b"\x1f\x8b": lambda source: gzip.GzipFile(fileobj=source),
            b"\xfd7zXZ\0": lzma.LZMAFile,
            b"BZh": bz2.BZ2File,
        }
        opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), None)
        if opener is None:
            yield file, True
            return
        with opener(file) as stream:
            yield cast(IO[bytes], stream), False


def _of_macos(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith("._") for part in parts)


def _single_folder(scratch: Path) -> Path:
    """Return the only folder at the top of an archive, if there is nothing else but documents; otherwise the top.

    set.json and split lists do not count as documents: with one of them, the top is the data set.
    """
    visible = [child for child in scratch.iterdir() if not child.name.startswith(".")]
    folders = [child for child in visible if child.is_dir()]
    is_single = len(folders) == 1 and all(_is_document(child) for child in visible if child not in folders)
    return folders[0] if is_single else scratch


def _is_document(file: Path) -> bool:
    named = file.suffix.lower() in DOCUMENTS or (not file.suffix and file.name.isupper())  # README, LICENSE
    return named and not (file.name == "set.json" or split_of_list(file.name))

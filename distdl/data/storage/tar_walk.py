"""Read the members of a tar archive, and verify that the archive is complete.

Python's tarfile interprets a damaged header, a block of zeros or the end of the file as the end of the archive, so that
half of an archive looks complete. This module accepts after a member only another header with a valid checksum, or the
end-of-archive marker (two blocks of zeros) followed by nothing but zeros.

The contents of a tar archive's members have no checksums: only damage outside of them is detected.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from distdl.core.errors import UserError
from distdl.core.regular import open_regular

BLOCK = tarfile.BLOCKSIZE
NAME_BYTES = 2**20
"""Maximum size of an extension header (long name, pax records). Linux limits paths to 4096 bytes."""
SIZE_LIMIT = 2**60
"""Maximum size of a member in bytes, so that no offset in an archive exceeds an off_t."""
CHUNK_BYTES = 2**20
COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
"""By first bytes of compressed data: its format and the command that unpacks it."""
REGULAR = tarfile.REGULAR_TYPES[:3]  # the fourth is GNU's sparse file, whose bytes are not stored in one piece
WITHOUT_CONTENT = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.DIRTYPE: "a directory",
    tarfile.FIFOTYPE: "a FIFO",
}
"""Types of members that have only a header."""
SPARSE_ADVICE = "is a sparse file, which is not stored in one piece: pack the archive again without --sparse"


class DamagedTar(Exception):
    """An archive is incomplete, or has a member that cannot be read in place. The message states the position."""


class Member(NamedTuple):
    """A member of an archive."""

    name: str
    type: bytes
    """Type flag of its header: one of REGULAR or WITHOUT_CONTENT."""
    offset: int
    """Offset of its content, in bytes."""
    size: int
    """Size of its content, in bytes; 0 for all but regular files."""

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type in REGULAR


class ByteSource(Protocol):
    """Access to the bytes of an archive by offset. Offsets never decrease."""

    def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer at the end of the archive."""
        ...


class FileSource:
    """A file that is open for reading."""

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = file.fileno()

    def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at `offset`."""
        return os.pread(self._descriptor, size, offset)


class StreamSource:
    """A stream that cannot seek, such as decompressed data."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0

    def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at `offset`, which must not be before the end of the previous read."""
        while self._position < offset:
            skipped = self._stream.read(min(CHUNK_BYTES, offset - self._position))
            if not skipped:
                return b""
            self._position += len(skipped)
        content = b""
        while len(content) < size and (chunk := self._stream.read(size - len(content))):
            content += chunk
        self._position += len(content)
        return content


def walk(source: ByteSource) -> Iterator[Member]:
    """Yield the members of an archive in order. The archive is complete if the iteration ends without an error.

    Raises:
        DamagedTar: the archive is damaged or truncated, or other data follows its end; the message states the byte.
    """
    offset = 0
    name, pax = "", {}  # from extension headers, for the next member
    while any(block := source.read(offset, BLOCK)):
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if not offset:
                raise DamagedTar(f"{_start_problem(block)}") from None
            problem = "is truncated" if len(block) < BLOCK else f"is damaged: no valid header of a member ({error})"
            raise DamagedTar(f"it {problem} at byte {offset:,}: copy it again") from None
        content = offset + BLOCK
        if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
                           tarfile.GNUTYPE_LONGLINK):  # fmt: skip
            text = _extension(source, content, header.size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif header.type != tarfile.GNUTYPE_LONGLINK:
                records = _pax_records(offset, text)
                if header.type != tarfile.XGLTYPE:
                    pax = records
                elif records.keys() & {"path", "size"}:
                    raise DamagedTar(f"the global header at byte {offset:,} renames or resizes all members")
            offset = content + _padded(header.size)
            continue
        member = _member(offset, header, name, pax)
        offset, name, pax = content + _padded(member.size), "", {}
        yield member
    if name or pax:
        raise DamagedTar(f"it is truncated at byte {offset:,}: the member's header is missing; copy it again")
    _check_end(source, offset, block)


def open_tar(path: Path) -> IO[bytes]:
    """Open a tar archive whose members are read in place.

    Raises:
        UserError: it is compressed, empty, or cannot be opened.
    """
    try:
        file = open_regular(path)
        start = file.read(8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    for magic, (kind, command) in COMPRESSED.items():
        if start.startswith(magic):
            file.close()
            raise UserError(f"{path} is compressed by {kind}, but samples are read in place: unpack it with {command}")
    return file


def _start_problem(block: bytes) -> str:
    return "it is empty" if not block else "it does not begin with a valid header of a member"


def _member(offset: int, header: tarfile.TarInfo, name: str, pax: dict[str, str]) -> Member:
    name = pax.get("path", name or header.name)
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in pax):
        raise DamagedTar(f"its member {pax.get('GNU.sparse.name', name)!r} {SPARSE_ADVICE}")
    if header.type in WITHOUT_CONTENT:
        return Member(name, header.type, offset + BLOCK, 0)
    if header.type not in REGULAR:
        raise DamagedTar(f"its member {name!r} at byte {offset:,} is of the unknown type {header.type!r}")
    size = int(pax.get("size", header.size))
    if not 0 <= size < SIZE_LIMIT:
        raise DamagedTar(f"it is damaged at byte {offset:,}: its member {name!r} has a size of {size}")
    return Member(name, header.type, offset + BLOCK, size)


def _extension(source: ByteSource, offset: int, size: int) -> bytes:
    if not 0 <= size <= NAME_BYTES:
        raise DamagedTar(f"it is damaged at byte {offset:,}: an extension header of {size:,} bytes")
    content = source.read(offset, size)
    if len(content) < size:
        raise DamagedTar(f"it is truncated at byte {offset + len(content):,}: copy it again")
    return content


def _pax_records(offset: int, content: bytes) -> dict[str, str]:
    """Parse records `LENGTH KEY=VALUE NEWLINE`, where LENGTH is that of the whole record."""
    records: dict[str, str] = {}
    position = 0
    while position < len(content):
        digits, _, _ = content[position : position + 20].partition(b" ")
        end = position + int(digits) if digits.isdigit() else position
        key, equals, value = content[position + len(digits) + 1 : end - 1].partition(b"=")
        is_valid = position < end <= len(content) and content[end - 1 : end] == b"\n" and key and equals
        if not is_valid or (key == b"size" and not (value.isdigit() and len(value) < 20)):
            raise DamagedTar(f"it is damaged at byte {offset:,}: an extension header that cannot be read")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position = end
    return records


def _check_end(source: ByteSource, offset: int, block: bytes) -> None:
    """Check that only zeros follow, at least two blocks of them."""
    position = offset + len(block)
    while chunk := source.read(position, CHUNK_BYTES):
        if chunk.count(0) < len(chunk):
            first = position + len(chunk) - len(chunk.lstrip(b"\0"))
            raise DamagedTar(
                f"it ends at byte {offset:,}, but has data at byte {first:,}: it is damaged, or several archives were "
                "joined; copy it again, or join archives with tar --concatenate"
            )
        position += len(chunk)
    if position < offset + 2 * BLOCK:
        if not position:
            raise DamagedTar("it is empty")
        raise DamagedTar(f"it is truncated: no member and no end marker at byte {offset:,}; copy or pack it again")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK

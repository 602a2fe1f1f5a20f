"""Reading of findings.json, which `distdl.studies.runner.folder.StudyFolder.write_findings` writes."""

import struct
from pathlib import Path
from typing import Any

from distdl.core.errors import reading
from distdl.core.names import as_name
from distdl.core.regular import read_regular
from distdl.core.userfiles import parse_json, read_text
from distdl.core.validation import check
from distdl.report.content import Figure, Finding, Picture, Section, Table

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 2**26
"""Maximum number of pixels of a picture."""
KINDS: dict[str, type] = {kind.__name__.lower(): kind for kind in (Figure, Finding, Table)}


def sections(file: Path) -> list[Section]:
    """Read the sections in the file, with pictures from the PNG files in its folder; missing pictures are omitted.

    Raises:
        UserError: if the file does not contain sections.
    """
    with reading(file.name, "findings"):
        content = parse_json(read_text(file))
        if not isinstance(content, list):
            raise TypeError("expected a list of sections")
        return [_section(each, file) for each in content]


def _section(stored: Any, file: Path) -> Section:
    if stored["kind"] != "section":
        raise ValueError("expected only sections")
    parts = [_part(part, file) for part in stored["parts"]]
    texts = {name: check(str, stored[name], name, where=file.name, strict=True) for name in ("title", "text")}
    return Section(**texts, parts=tuple(part for part in parts if part is not None))


def _part(stored: Any, file: Path) -> Figure | Finding | Picture | Table | None:
    if stored["kind"] != "picture":
        return check(KINDS[stored["kind"]], stored, where=file.name, strict=True)
    name, title, caption = (
        check(str, stored[key], key, where=file.name, strict=True) for key in ("name", "title", "caption")
    )
    picture = file.with_name(f"{as_name(name)}.png")
    return Picture(name=name, title=title, png=_png(picture), caption=caption) if picture.is_file() else None


def _png(file: Path) -> bytes:
    """The content of a PNG file, of which the header is checked: a small file may have billions of pixels."""
    content = read_regular(file)
    if content[:8] != SIGNATURE or len(content) < 24:
        raise ValueError(f"{file.name} is not a PNG")
    width, height = struct.unpack(">II", content[16:24])
    if width * height > MAX_PIXELS:
        raise ValueError(f"{file.name} has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,}")
    return content

"""A report as one self-contained HTML file: it needs no network, no server and no other file.

A folder of the same name contains each figure as SVG and PNG, and the data of figures and tables as CSV. The content
security policy of the page allows only its two scripts and loads nothing; jinja2 escapes all text.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from distdl.core.errors import UserError, missing
from distdl.core.files import write_atomic
from distdl.core.format import is_number, written
from distdl.core.names import as_name
from distdl.core.opening import check_folder
from distdl.core.text import printable
from distdl.report.axes import Spec
from distdl.report.content import Content, Figure, Finding, Picture, Section, Table
from distdl.report.downsample import downsampled
from distdl.report.figure_files import figure_csv, png, svg, table_csv, write_derived
from distdl.report.vega import library
from distdl.report.vega_lite import spec


@dataclass(frozen=True)
class Fact(Content):
    """A number at the top of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Page(Content):
    """Content of a page."""

    title: str
    sections: tuple[Section, ...]
    subtitle: str = ""
    status: str = ""
    """completed, stopped, failed, ...; shown after the title."""
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    """Messages about missing or damaged files."""


def write(file: Path, page: Page) -> Path:
    """Write the page to `file`, and its figures and data into the folder of the same name without the suffix.

    Raises:
        UserError: if a package is not installed, or the page cannot be written.
    """
    if not file.name or file.name == ".." or file.is_dir():
        raise UserError(f"{file} is a folder: add a file name, such as {file / 'report.html'}")
    folder = file.with_suffix("")
    if folder == file:
        raise UserError(f"{file} needs a suffix: {file}.html")
    check_folder(folder)
    sections = _with_unique_names(page.sections)
    parts = [part for section in sections for part in section.parts if not isinstance(part, Finding)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # vl-convert and Pillow release the GIL: figures are drawn while the page is built.
        with ThreadPoolExecutor(2) as pool:
            written_parts = [_write_part(part, folder, pool) for part in parts]
            by_name = {part.name: files for part, files in zip(parts, written_parts, strict=True)}
            text = _html(page, sections, folder.name, by_name)
        for part in written_parts:
            part.wait()
        write_atomic(file, lambda sink: sink.write(text.encode(errors="surrogateescape")))
    except OSError as error:
        path = error.filename or file
        raise UserError(f"the report {file} cannot be written: {path}: {error.strerror or error}") from None
    return file


@dataclass(frozen=True)
class _WrittenPart:
    """Files of a part, and its specification and notes for the page."""

    files: tuple[str, ...]
    spec: Spec | None = None
    notes: tuple[str, ...] = ()
    drawing: Future[None] | None = None

    def wait(self) -> None:
        """Wait until the drawings are written; raises the error if that failed."""
        if self.drawing:
            self.drawing.result()


def _write_part(part: Figure | Table | Picture, folder: Path, pool: Executor) -> _WrittenPart:
    match part:
        case Table():
            write_derived(folder / f"{part.name}.csv", table_csv(part).encode())
            return _WrittenPart((f"{part.name}.csv",))
        case Picture():
            write_derived(folder / f"{part.name}.png", part.png)
            return _WrittenPart((f"{part.name}.png",))
    figure, notes = downsampled(part)
    drawing = pool.submit(_write_drawings, figure, notes, folder)
    write_derived(folder / f"{part.name}.csv", figure_csv(part).encode())
    chart, notes = spec(figure, notes, paper=False)
    return _WrittenPart(tuple(f"{part.name}.{kind}" for kind in ("svg", "png", "csv")), chart, tuple(notes), drawing)


def _write_drawings(figure: Figure, notes: Sequence[str], folder: Path) -> None:
    on_paper = svg(figure, notes)
    write_derived(folder / f"{figure.name}.svg", on_paper.encode())
    write_derived(folder / f"{figure.name}.png", png(on_paper))


def _with_unique_names(sections: Iterable[Section]) -> list[Section]:
    """Return the sections with part names that are valid and unique file names."""
    used: set[str] = set()

    def renamed(part: Finding | Table | Figure | Picture) -> Finding | Table | Figure | Picture:
        if isinstance(part, Finding):
            return part
        stem = name = as_name(part.name, "part")
        number = 1
        while name.lower() in used:  # file systems may ignore case
            number += 1
            name = f"{stem}-{number}"
        used.add(name.lower())
        return replace(part, name=name)

    return [replace(section, parts=tuple(map(renamed, section.parts))) for section in sections]


def _html(page: Page, sections: Sequence[Section], folder: str, parts: Mapping[str, _WrittenPart]) -> str:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise missing("jinja2", "report") from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "written": written,
        "data_url": _data_url,
        "slug": _slug,
        "url": _url,
        "printable": printable,
    }
    environment.tests |= {"number": is_number}
    for kind in (Figure, Finding, Picture, Table):
        environment.tests[kind.__name__.lower()] = lambda part, kind=kind: isinstance(part, kind)
    script = _template("page.js")
    return environment.from_string(_template("page.html")).render(
        page=page,
        sections=sections,
        folder=folder,
        written_parts=parts,
        style=_template("page.css"),
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        library=library(),
        specs=_packed({name: part.spec for name, part in parts.items() if part.spec}),
        when=time.strftime("%Y-%m-%d %H:%M"),
    )


def _template(name: str) -> str:
    return (resources.files("distdl.report") / name).read_text(encoding="utf-8")


def _packed(value: Any) -> str:
    """Encode as JSON, gzip and base64: a fifth of the size, and no characters with a meaning in HTML."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _data_url(png: bytes) -> str:
    """Encode a picture as a data URL, as WebP if that is smaller; photographs become much smaller."""
    kind, data = "png", png
    with contextlib.suppress(Exception):  # a file that Pillow cannot read stays a PNG; its decoders raise anything
        sink = io.BytesIO()
        Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGB").save(sink, "WEBP", quality=85)
        if sink.tell() < len(png):
            kind, data = "webp", sink.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _url(name: str) -> str:
    """The address of a file in the page's folder, whose name may have any bytes."""
    return quote(os.fsencode(name))


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-") or "section"

"""A report as one HTML file that needs nothing else: no network, no server, no file beside it.

Beside it lies a folder with each figure as SVG and PNG, and the data of figures and tables as CSV. A content security
policy in the page lets only the page's own two scripts run and nothing be fetched; all text is escaped by jinja2.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from distdl.core.errors import UserError, missing
from distdl.core.files import write_atomic
from distdl.core.format import is_number, written
from distdl.report.content import Content, Figure, Finding, Picture, Section, Table
from distdl.report.downsample import drawn
from distdl.report.figure_files import figure_csv, png, svg, table_csv, write_derived
from distdl.report.vega import library
from distdl.report.vega_lite import spec


@dataclass(frozen=True)
class Fact(Content):
    """A figure that the page begins with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Page(Content):
    """All that a page shows."""

    title: str
    sections: tuple[Section, ...]
    subtitle: str = ""
    status: str = ""
    """completed, stopped, failed, ...; shown beside the title."""
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    """What is missing or damaged."""


def write(file: Path, page: Page) -> Path:
    """Write the page to `file`, and its figures and data into the folder of the same name without the ending.

    Raises:
        UserError: the extra `report` is not installed, or the place cannot be written.
    """
    if not file.name or file.name == ".." or file.is_dir():
        raise UserError(f"{file} is a folder: name a file in it, such as {file / 'report.html'}")
    beside = file.with_suffix("")
    if beside == file:
        raise UserError(f"{file} needs an ending: {file}.html")
    sections = _named(page.sections)
    parts = [part for section in sections for part in section.parts if _is_file(part)]
    try:
        beside.mkdir(parents=True, exist_ok=True)
        # vl-convert and Pillow let others work while they do: figures are drawn beside the rest.
        with ThreadPoolExecutor(2) as pool:
            made = [_write_part(part, beside, pool) for part in parts]
            text = _html(page, sections, beside.name, dict(zip((part.name for part in parts), made, strict=True)))
        for one in made:
            one.wait()
        write_atomic(file, lambda sink: sink.write(text.encode(errors="surrogateescape")))
    except OSError as error:
        place = error.filename or file
        raise UserError(f"the report {file} cannot be written: {place}: {error.strerror or error}") from None
    return file


@dataclass(frozen=True)
class _Made:
    """What one part has become."""

    files: tuple[str, ...]
    spec: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    pending: Future[None] | None = None

    def wait(self) -> None:
        """Until its last file is written; raises what went wrong with it."""
        if self.pending:
            self.pending.result()


def _is_file(part: Any) -> bool:
    return isinstance(part, Figure | Table | Picture)


def _write_part(part: Figure | Table | Picture, folder: Path, pool: Executor) -> _Made:
    """Write a part's files."""
    match part:
        case Table():
            write_derived(folder / f"{part.name}.csv", table_csv(part).encode())
            return _Made((f"{part.name}.csv",))
        case Picture():
            write_derived(folder / f"{part.name}.png", part.png)
            return _Made((f"{part.name}.png",))
    figure, left_out = drawn(part)
    pending = pool.submit(_write_drawings, figure, left_out, folder)
    write_derived(folder / f"{part.name}.csv", figure_csv(part).encode())
    on_screen, notes = spec(figure, left_out, paper=False)
    return _Made(tuple(f"{part.name}.{kind}" for kind in ("svg", "png", "csv")), on_screen, tuple(notes), pending)


def _write_drawings(figure: Figure, notes: Sequence[str], folder: Path) -> None:
    on_paper = svg(figure, notes)
    write_derived(folder / f"{figure.name}.svg", on_paper.encode())
    write_derived(folder / f"{figure.name}.png", png(on_paper))


def _named(sections: Iterable[Section]) -> list[Section]:
    """The sections with names that are fit for files and different from each other."""
    used: set[str] = set()

    def unique(part: Any) -> Any:
        if not _is_file(part):
            return part
        stem = name = re.sub(r"[^\w.=+-]+", "-", part.name).strip(".-")[:80] or "part"
        number = 1
        while name.lower() in used:  # a file system may not tell cases apart
            number += 1
            name = f"{stem}-{number}"
        used.add(name.lower())
        return replace(part, name=name)

    return [replace(section, parts=tuple(map(unique, section.parts))) for section in sections]


def _html(page: Page, sections: Sequence[Section], folder: str, made: Mapping[str, _Made]) -> str:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise missing("jinja2", "report") from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"written": written, "data_url": _data_url, "slug": _slug}
    environment.tests |= {"number": is_number}
    for kind in (Figure, Finding, Picture, Table):
        environment.tests[kind.__name__.lower()] = lambda part, kind=kind: isinstance(part, kind)
    script = _template("page.js")
    return environment.from_string(_template("page.html")).render(
        page=page,
        sections=sections,
        folder=folder,
        made=made,
        style=_template("page.css"),
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        library=library(),
        specs=_packed({name: one.spec for name, one in made.items() if one.spec}),
        when=time.strftime("%Y-%m-%d %H:%M"),
    )


def _template(name: str) -> str:
    return (resources.files("distdl.report") / name).read_text(encoding="utf-8")


def _packed(value: Any) -> str:
    """JSON, gzip, base64: a fifth of the bytes, and nothing in it that a browser could take for markup."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _data_url(png: bytes) -> str:
    """A picture inside the page: as WebP where that is smaller, which for photographs it is by far."""
    kind, data = "png", png
    with contextlib.suppress(OSError):  # what Pillow cannot read is left as it is
        sink = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").save(sink, "WEBP", quality=85)
        if sink.tell() < len(png):
            kind, data = "webp", sink.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-") or "section"

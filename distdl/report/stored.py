"""findings.json back as the values that it was written from (distdl.studies.folder.write_findings)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from distdl.report.content import Axis, Figure, Finding, Layer, Picture, Section, Table

KINDS: dict[str, type] = {
    kind.__name__.lower(): kind for kind in (Axis, Figure, Finding, Layer, Picture, Section, Table)
}


def sections(file: Path) -> list[Section]:
    """The sections that the file holds; pictures are read from the PNG files beside it, missing ones left out.

    Raises:
        ValueError: the file does not hold sections.
        OSError: it cannot be read.
    """
    try:
        found = [_value(one, file.parent) for one in json.loads(file.read_text(encoding="utf-8"))]
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file.name} does not hold findings: {error}") from None
    if not all(isinstance(one, Section) for one in found):
        raise ValueError(f"{file.name} does not hold sections")
    return found


def _value(stored: Any, folder: Path) -> Any:
    if isinstance(stored, list):
        return tuple(value for one in stored if (value := _value(one, folder)) is not None or one is None)
    if not isinstance(stored, dict) or "kind" not in stored:
        return stored
    kind = KINDS[stored["kind"]]
    names = {field.name for field in dataclasses.fields(kind)} & set(stored)
    if kind is Layer:  # its columns are a table of their own, which may have one that is named kind
        return Layer(**{name: stored[name] for name in names})
    values = {name: _value(stored[name], folder) for name in names}
    if kind is Picture:
        file = folder / f"{Path(values['name']).name}.png"
        if not file.is_file():
            return None
        values["png"] = file.read_bytes()
    return kind(**values)

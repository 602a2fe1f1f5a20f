"""manifest.json makes a folder of files a whole checkpoint: written last, with the SHA-256 of each other file.

Needs no torch: a command that only looks at checkpoints starts at once.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from distdl.errors import UserError, reading
from distdl.files import write_json

STATE, MANIFEST = "state.pt", "manifest.json"
NAME = re.compile(r"step-(\d+)(?:-(\d+))?")
"""A published checkpoint: its step, and a number where a step was saved more than once."""


def published(folder: Path) -> list[Path]:
    """Published checkpoints of a folder, oldest first. They may be damaged."""
    matches = [(match, path) for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
    complete = [(int(match[1]), int(match[2] or 1), path) for match, path in matches if (path / MANIFEST).is_file()]
    return [path for _, _, path in sorted(complete)]


def step_of(checkpoint: Path) -> int:
    """The step in the name of a published checkpoint."""
    return int(NAME.fullmatch(checkpoint.name)[1])


def seal(folder: Path, progress: Mapping[str, Any], metric: float | None, kind: str = "accuracy") -> None:
    """Write the manifest of a folder that has all its other files; `kind` is what `metric` measures."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    digests = {name: digest(file) for name, file in files.items()}
    write_json(folder / MANIFEST, {"progress": progress, "metric": metric, "metric_kind": kind, "sha256": digests})


def read_manifest(folder: Path) -> dict[str, Any]:
    """`progress`, `metric` and `sha256` of a checkpoint.

    Raises:
        UserError: if the file cannot be read, or does not hold them.
    """
    file = folder / MANIFEST
    with reading(file, "a manifest"):
        manifest = json.loads(file.read_text(encoding="utf-8"))
    problem = _problem(manifest)
    if problem:
        raise UserError(f"{file} is damaged: {problem}")
    return manifest


def _problem(manifest: Any) -> str:
    if not isinstance(manifest, dict):
        return "it is not a JSON object"
    progress, metric, digests = (manifest.get(key) for key in ("progress", "metric", "sha256"))
    if not isinstance(progress, dict):
        return "progress is not an object"
    if metric is not None and not (type(metric) in (int, float) and math.isfinite(metric)):
        return "metric is not a finite number"
    if not isinstance(digests, dict) or not all(isinstance(value, str) for value in digests.values()):
        return "sha256 does not hold a checksum for each file"
    outside = [name for name in digests if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    return f"sha256 names {outside[0]!r}, a file outside the checkpoint" if outside else ""


def damaged(folder: Path) -> str | None:
    """The first damage of a checkpoint's files, or None."""
    try:
        digests = read_manifest(folder)["sha256"]
    except UserError as error:
        return f"{MANIFEST} cannot be read: {str(error).removeprefix(str(folder / MANIFEST)).strip()}"
    for name, expected in digests.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if digest(file) != expected:
            return f"{name} does not match its checksum"
    return None


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()

"""What makes a folder of files a whole checkpoint: manifest.json, written last, with the SHA-256 of each of the others.

Needs no torch: who only looks after checkpoints, and never loads one, starts at once.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distdl.rundir import write_json

STATE, MANIFEST = "state.pt", "manifest.json"


def seal(folder: Path, progress: Mapping[str, Any], metric: float | None) -> None:
    """Write the manifest of a folder that has all its other files."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    digests = {name: digest(file) for name, file in files.items()}
    write_json(folder / MANIFEST, {"progress": progress, "metric": metric, "sha256": digests})


def read_manifest(folder: Path) -> dict[str, Any]:
    """`progress`, `metric` and `sha256` of a checkpoint."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def damaged(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        digests = read_manifest(folder)["sha256"]
    except (OSError, ValueError, KeyError):
        return f"{MANIFEST} cannot be read"
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

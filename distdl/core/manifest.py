"""manifest.json completes a checkpoint: it is written last, with the SHA-256 of all other files.

Needs no torch, so that commands that only list checkpoints start quickly.
"""

import dataclasses
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError, as_literal, reason
from distdl.core.files import write_json
from distdl.core.paths import is_inside
from distdl.core.regular import open_regular
from distdl.core.userfiles import read_json

STATE, MANIFEST = "state.pt", "manifest.json"
NAME = re.compile(r"step-(\d+)(?:-(\d+))?")
"""Folder name of a published checkpoint: its step, and a number if the step was saved more than once."""
SHA256 = re.compile("[0-9a-f]{64}")
LIMIT = 2**63
"""Numbers of a manifest are smaller, so that arithmetic with them cannot overflow."""


@dataclass(kw_only=True)
class Progress:
    """Position of a training. `samples` counts over all ranks, so that the number of ranks may change."""

    step: int = 0
    epoch: int = 0
    samples: int = 0
    """Samples of the current epoch, over all ranks."""
    elapsed_s: float = 0.0
    """Training time in seconds, over all legs of the run."""
    images: int = 0
    """Samples since the start of the run."""
    resumes: int = 0

    @classmethod
    def of(cls, folder: Path) -> "Progress":
        """The position in the manifest of a checkpoint.

        Raises:
            UserError: as `read_manifest`.
        """
        return cls(**read_manifest(folder)["progress"])


def published(folder: Path) -> list[Path]:
    """Published checkpoints of a folder, oldest first; they may be damaged."""
    matches = [(match, path) for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
    complete = [(int(match[1]), int(match[2] or 1), path) for match, path in matches if (path / MANIFEST).is_file()]
    return [path for _, _, path in sorted(complete)]


def step_of(checkpoint: Path) -> int:
    """The step in the name of a published checkpoint."""
    match = NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is not the name of a checkpoint")
    return int(match[1])


def seal(folder: Path, progress: Mapping[str, Any], metric: float | None, kind: str = "accuracy") -> None:
    """Write the manifest of a folder whose other files are complete; `kind` is the name of `metric`."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    digests = {name: digest(file) for name, file in files.items()}
    write_json(folder / MANIFEST, {"progress": progress, "metric": metric, "metric_kind": kind, "sha256": digests})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `progress`, `metric` and `sha256` of a checkpoint: all present, of the right types and consistent.

    Raises:
        UserError: if the file cannot be read or is not such a manifest.
    """
    file = folder / MANIFEST
    manifest = read_json(file, "a manifest")
    problem = _problem(manifest) or _other_step(manifest, folder)
    if problem:
        raise UserError(f"{file} is damaged: {problem}")
    return manifest


def _problem(manifest: Mapping[str, Any]) -> str:
    for key in ("progress", "metric", "sha256"):
        if key not in manifest:
            return f"{key} is missing"
    metric, kind = manifest["metric"], manifest.get("metric_kind", "accuracy")  # version 1 has no kind
    if metric is not None and not (type(metric) in (int, float) and abs(metric) <= sys.float_info.max):
        return "metric is not a finite number"
    if kind not in ("accuracy", "loss"):
        return f"metric_kind is {as_literal(kind)}"
    return _problem_of_position(manifest["progress"]) or _problem_of_digests(manifest["sha256"])


def _problem_of_position(progress: Any) -> str:
    if not isinstance(progress, dict):
        return "progress is not an object"
    kinds = {field.name: (int,) if field.type is int else (int, float) for field in dataclasses.fields(Progress)}
    for name in (*kinds, *progress):
        if name not in progress:
            return f"progress.{name} is missing"
        if name not in kinds:
            return f"progress has the unknown field {as_literal(name)}"
        if type(progress[name]) not in kinds[name] or not 0 <= progress[name] < LIMIT:
            return f"progress.{name} is {as_literal(progress[name])}"
    for part, total in (("epoch", "step"), ("samples", "images")):  # an epoch has at least one step
        if progress[part] > progress[total]:
            return f"progress.{part} is {as_literal(progress[part])} at {total} {as_literal(progress[total])}"
    return ""


def _problem_of_digests(digests: Any) -> str:
    if not isinstance(digests, dict) or not all(
        isinstance(value, str) and SHA256.fullmatch(value) for value in digests.values()
    ):
        return "sha256 is not a table of checksums"
    if STATE not in digests:
        return f"sha256 has no checksum of {STATE}"
    outside = [name for name in digests if not is_inside(name)]
    return f"sha256 names {outside[0]!r}, a file outside the checkpoint" if outside else ""


def _other_step(manifest: Mapping[str, Any], folder: Path) -> str:
    step = manifest["progress"]["step"]
    is_published = NAME.fullmatch(folder.name)
    return f"progress.step is {as_literal(step)} in {folder.name}" if is_published and step_of(folder) != step else ""


def damaged(folder: Path) -> str | None:
    """Description of the first damaged file of a checkpoint; None if it is whole."""
    try:
        digests = read_manifest(folder)["sha256"]
    except UserError as error:
        return str(error).replace(str(folder / MANIFEST), MANIFEST, 1)
    for name, expected in digests.items():
        file = folder / name
        if not os.path.isfile(file):  # noqa: PTH113 - an invalid name counts as missing
            return f"{name} is missing"
        try:
            if digest(file) != expected:
                return f"{name} does not match its checksum"
        except OSError as error:
            return f"{name} cannot be read: {reason(error)}"
    for file in sorted(folder.rglob(f"*{Path(STATE).suffix}")):
        if (name := file.relative_to(folder).as_posix()) not in digests:
            return f"{MANIFEST} has no checksum of {name}"
    return None


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open_regular(file) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()

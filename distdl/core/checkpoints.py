"""Select the newest or the best whole checkpoint of a run folder. Reads manifests, not tensors."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from distdl.core.errors import UserError
from distdl.core.manifest import MANIFEST, damaged, published, read_manifest
from distdl.core.run_files import CHECKPOINTS


def find(path: Path, warn: Callable[[str], None]) -> Path:
    """Find the checkpoint of a path: the checkpoint itself, or the newest whole one of a run folder.

    Raises:
        UserError: if there is none, or the one named is damaged.
    """
    if (path / MANIFEST).exists():
        damage = damaged(path)
        if damage:
            raise UserError(f"checkpoint {path} is damaged: {damage}")
        return path
    folder = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    checkpoint = newest(folder, warn)
    if checkpoint is None:
        raise UserError(f"{path} holds no whole checkpoint" + ("" if path.exists() else ": it does not exist"))
    return checkpoint


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint of `folder`; `warn` receives a message for each damaged one that is skipped."""
    return _first_whole(reversed(published(folder)), warn, "the one before it")


def best(folder: Path, kind: str = "") -> Path | None:
    """The checkpoint of `folder` with the best metric; the earliest of equals.

    Args:
        kind: metric, accuracy or loss; default: that of the newest checkpoint.
    """
    return next(_by_metric(folder, kind), None)


def best_whole(folder: Path, kind: str, warn: Callable[[str], None]) -> Path | None:
    """The best checkpoint that is whole; `warn` receives a message for each damaged one that is skipped."""
    return _first_whole(_by_metric(folder, kind), warn, "the next best")


def _by_metric(folder: Path, kind: str) -> Iterator[Path]:
    """Checkpoints with this metric, the best first, without those with a damaged manifest."""
    manifests = {}
    for checkpoint in published(folder):
        with contextlib.suppress(UserError):
            manifests[checkpoint] = read_manifest(checkpoint)
    kinds = [manifest["metric_kind"] for manifest in manifests.values() if "metric_kind" in manifest]
    kind = kind or (kinds[-1] if kinds else "accuracy")
    sign = 1.0 if kind == "loss" else -1.0
    scored = [
        (sign * manifest["metric"], checkpoint)
        for checkpoint, manifest in manifests.items()
        if manifest["metric"] is not None and manifest.get("metric_kind", kind) == kind  # version 1 has no kind
    ]
    return (checkpoint for _, checkpoint in sorted(scored, key=lambda pair: pair[0]))


def _first_whole(folders: Iterator[Path], warn: Callable[[str], None], instead: str) -> Path | None:
    for folder in folders:
        damage = damaged(folder)
        if damage is None:
            return folder
        warn(f"checkpoint {folder} is damaged ({damage}); {instead} is tried")
    return None

"""The data root, the cache folder, and the identity of files."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/distdl, or ~/.cache/distdl."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distdl"


def fingerprint(path: Path) -> bytes:
    """Identity and version of a file: data derived from the file is valid while this value does not change.

    It includes the time of the last status change, which programs cannot set back.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return os.fsencode(f"{os.path.realpath(path)} {version}")


def data_root(root: Path | None = None) -> Path:
    """The folder of data sets: `root`, else $DISTDL_DATA, else data in the cache folder."""
    return Path(root or os.environ.get("DISTDL_DATA") or cache_folder() / "data").expanduser()


def root_origin(root: Path | None = None) -> str:
    """Origin of `data_root`, for messages."""
    return "--data.root" if root else "$DISTDL_DATA" if os.environ.get("DISTDL_DATA") else "the cache folder"

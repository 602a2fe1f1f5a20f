"""The data root, the cache folder, and the identity of files."""

import os
from pathlib import Path, PurePosixPath

from distdl.core.errors import UserError, as_literal


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/distdl, or ~/.cache/distdl."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distdl"


def current_folder() -> Path:
    """The current folder.

    Raises:
        UserError: it was removed.
    """
    try:
        return Path.cwd()
    except OSError:
        raise UserError("the current folder was removed: change to another one") from None


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


def is_inside(name: object) -> bool:
    """Whether a name from a file, joined to a folder, is the path of something below that folder.

    Links are not considered: a link that is below the folder may lead anywhere.
    """
    if not isinstance(name, str) or "\0" in name:
        return False
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts


def inside(folder: Path, name: str, source: Path | str) -> Path:
    """Path of a file that another file names relative to a folder.

    Args:
        source: the file that contains the name, for the message.
    Raises:
        UserError: the path is not below the folder.
    """
    if not is_inside(name):
        raise UserError(f"{source} names {as_literal(name)}, a file outside of {folder}")
    return folder / name

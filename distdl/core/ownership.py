"""Warning about checkpoints that other users can change: their owner, their group, or every user.

The checksums in a manifest detect damage. A user who can write the files can write other checksums too.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from distdl.core.run_files import CHECKPOINTS


def warning(checkpoint: Path) -> str:
    """Sentence about the first file or folder of a checkpoint or its run that another user can change; or empty."""
    checkpoint = checkpoint.resolve()
    in_run = checkpoint.parent.name == CHECKPOINTS
    top = checkpoint.parents[1] if in_run else checkpoint
    folders = [top, checkpoint.parent, checkpoint] if in_run else [checkpoint]
    exposure = next(_exposed([*folders, *sorted(checkpoint.rglob("*"))], list(top.parents)), "")
    return exposure and (
        f"checkpoint {checkpoint} can be changed by others: {exposure}; its checksums detect damage but no intended "
        "change: use it only if you trust them"
    )


def _exposed(paths: list[Path], parents: list[Path]) -> Iterator[str]:
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # a link to nothing
            continue
        if status.st_uid != os.geteuid():
            yield f"{path} belongs to {_user(status.st_uid)}"
        if status.st_mode & stat.S_IWOTH:
            yield f"{path} is writable for every user (mode {stat.filemode(status.st_mode)})"
        if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
            yield f"{path} is writable for group {_group(status.st_gid)} (mode {stat.filemode(status.st_mode)})"
    for path in parents:  # who may rename entries of a folder can replace the run; the sticky bit forbids it
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield f"{path} is writable for every user (mode {stat.filemode(mode)})"


def _is_private_group(gid: int) -> bool:
    """Whether a group is the one of this user alone, which many systems create, with the umask 002."""
    try:
        user = pwd.getpwuid(os.geteuid())
        return gid == user.pw_gid != 0 and grp.getgrgid(gid).gr_name == user.pw_name
    except KeyError:
        return False


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)

"""Search for data sets, and download or unpack a missing one in one process of a host at a time."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from distdl.core import flock
from distdl.core.errors import UserError
from distdl.core.paths import cache_folder, fingerprint
from distdl.data.storage.archives import ARCHIVES, extract, is_archive


def unpacked(archive: Path) -> Path:
    """Return the folder in the cache with the current content of an archive, which is unpacked there if necessary.

    Raises:
        UserError: the archive cannot be unpacked, or the cache cannot be written.
    """
    key = hashlib.sha256(fingerprint(archive)).hexdigest()[:12]
    target = cache_folder() / "data" / f"{archive.name.split('.')[0]}-{key}"
    return build(target, lambda scratch: extract(archive, scratch))


def find(root: Path, folders: Sequence[str]) -> Path | None:
    """Return the first of `folders` that is in `root`, or is `root` itself, and is not empty; None if there is none."""
    for folder in folders:
        parts = Path(folder).parts
        place = root if root.absolute().parts[-len(parts) :] == parts else root / folder
        if place.is_dir() and any(not child.name.startswith(".") for child in place.iterdir()):
            return place
    return None


def find_archive(root: Path, folders: Sequence[str]) -> Path | None:
    """Return an archive in `root` with the name of one of `folders`; its suffix may be in upper case."""
    names = [Path(folder).parts[0] + suffix for folder in folders for low in ARCHIVES for suffix in (low, low.upper())]
    return next((root / name for name in names if (root / name).is_file()), None)


def build(target: Path, fill: Callable[[Path], None]) -> Path:
    """Create the folder `target` by `fill(scratch)` unless it exists: completely or not at all.

    A lock prevents processes that share a cache folder from doing this twice. Processes with separate cache folders may
    do it at the same time; the first to finish wins.

    Raises:
        UserError: the parent folder cannot be written.
    """
    with locked(target):
        if target.exists():
            return target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        except OSError as error:
            raise UserError(
                f"{target} cannot be created: {error.strerror}; choose another folder with --data.root"
            ) from None
        try:
            scratch.chmod(0o755)
            fill(scratch)
            _publish(scratch, target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            with contextlib.suppress(OSError):
                target.parent.rmdir()  # succeeds only if it is empty, so if it was created for this folder
            raise
    return target


def _publish(scratch: Path, target: Path) -> None:
    """Rename `scratch` to `target`, unless another process has created `target` in the meantime."""
    try:
        scratch.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.is_dir():
            raise
        shutil.rmtree(scratch)


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Lock `target` against other processes. The lock file is in the cache, since `target` may be read only."""
    name = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()[:16]
    path = cache_folder() / "locks" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = flock.acquire(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; choose another folder with $XDG_CACHE_HOME"
        ) from None
    try:
        yield
    finally:
        flock.release(descriptor)


def download(files: Sequence[tuple[str, str]], folder: Path) -> None:
    """Download the files of (url, md5) pairs into `folder`, and unpack archives.

    Raises:
        OSError, RuntimeError: there is no network, or a file does not match its md5.
    """
    from torchvision.datasets.utils import download_url

    for url, md5 in files:
        download_url(url, str(folder), md5=md5)
        archive = folder / url.rsplit("/", 1)[-1]
        if is_archive(archive):
            extract(archive, folder)
            archive.unlink()

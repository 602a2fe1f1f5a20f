"""Where data sets lie, and how one that is missing is fetched or unpacked, by one process of a host at a time."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from distdl.errors import UserError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/distdl, or ~/.cache/distdl."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distdl"


def data_root(root: Path | None = None) -> Path:
    """The folder in which data sets are looked for: the one given, else $DISTDL_DATA, else the cache folder's."""
    return Path(root or os.environ.get("DISTDL_DATA") or cache_folder() / "data").expanduser()


def root_origin(root: Path | None = None) -> str:
    """What named `data_root`, for messages."""
    return "--data.root" if root else "$DISTDL_DATA" if os.environ.get("DISTDL_DATA") else "the cache folder"


def find(root: Path, folders: Sequence[str]) -> Path | None:
    """The first of `folders` that is in `root`, or is `root` itself, and is not empty."""
    for folder in folders:
        parts = Path(folder).parts
        here = root if root.absolute().parts[-len(parts) :] == parts else root / folder
        if here.is_dir() and any(not child.name.startswith(".") for child in here.iterdir()):
            return here
    return None


def find_archive(root: Path, folders: Sequence[str]) -> Path | None:
    """An archive in `root` that is named like one of `folders`."""
    names = (Path(folder).parts[0] + suffix for folder in folders for suffix in ARCHIVES)
    return next((root / name for name in names if (root / name).is_file()), None)


def build(target: Path, fill: Callable[[Path], None]) -> Path:
    """`target`, made by `fill(scratch)` if it is not there yet: all of it or nothing, and by one process at a time.

    Raises:
        UserError: its folder cannot be written.
    """
    with locked(target):
        if target.exists():
            return target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        except OSError as error:
            raise UserError(f"{target} cannot be made: {error.strerror}; name another folder by --data.root") from None
        try:
            scratch.chmod(0o755)
            fill(scratch)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            with contextlib.suppress(OSError):
                target.parent.rmdir()  # if it was made for this alone
            raise
    return target


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold off other processes that want to make `target`. Locks lie in the cache, for `target` may be read only."""
    name = hashlib.sha256(str(target.absolute()).encode()).hexdigest()[:16]
    path = cache_folder() / "locks" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; name another folder by $XDG_CACHE_HOME") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into `folder`, without the one folder in which it may have packed all; nothing in it
    can reach outside.

    Raises:
        UserError: the archive is damaged, or a member would land outside the folder.
    """
    scratch = Path(tempfile.mkdtemp(dir=folder))
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                for name in zipped.namelist():
                    # extract() would strip "..", and put the file where nobody expects it: refuse it instead.
                    if ".." in Path(name).parts or Path(name).is_absolute() or "\\" in name:
                        raise UserError(f"{archive}: its member {name!r} would land outside the folder")
                zipped.extractall(scratch)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
    top = list(scratch.iterdir())
    inside = top[0] if len(top) == 1 and top[0].is_dir() else scratch
    for child in list(inside.iterdir()):
        child.rename(folder / child.name)
    shutil.rmtree(scratch)


def download(files: Sequence[tuple[str, str]], folder: Path) -> None:
    """Fetch (url, md5) pairs into `folder`, archives unpacked.

    Raises:
        OSError, RuntimeError: there is no network, or what came is not what was asked for.
    """
    from torchvision.datasets.utils import download_url

    for url, md5 in files:
        download_url(url, str(folder), md5=md5)
        archive = folder / url.rsplit("/", 1)[-1]
        if archive.name.endswith(ARCHIVES):
            extract(archive, folder)
            archive.unlink(missing_ok=True)

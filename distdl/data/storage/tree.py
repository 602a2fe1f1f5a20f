"""Tree of the images below a folder. The walk follows links, detects loops, and refuses folders that are unreadable."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distdl.core.errors import UserError, reason

SUFFIXES = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".dib": "DIB", ".gif": "GIF", ".webp": "WEBP",
    ".tiff": "TIFF", ".tif": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".avif": "AVIF", ".jp2": "JPEG2000", ".ico": "ICO",
}  # fmt: skip
"""Suffixes of images, with Pillow's names of their formats. Written files get the first suffix of their format."""
SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
"""Folders that operating systems and file servers create, in lower case."""
MAX_DEPTH = 64
MAX_VISITS = 100
"""Maximum number of visits of one folder. Ten links within linked folders can create more paths than a disk has
files."""


@dataclass(eq=False)
class Folder:
    """A folder with its images and subfolders, both sorted by name, without hidden and system entries."""

    path: str
    name: str
    images: list[str] = field(default_factory=list)
    """Names of image files."""
    others: list[str] = field(default_factory=list)
    """Names of other files."""
    folders: list["Folder"] = field(default_factory=list)
    total: int = 0
    """Images in this folder and below it."""

    @property
    def occupied(self) -> list["Folder"]:
        """Subfolders with images."""
        return [folder for folder in self.folders if folder.total]

    def below(self) -> Iterator["Folder"]:
        """Yield this folder and all folders below it."""
        yield self
        for folder in self.folders:
            yield from folder.below()

    def files(self) -> list[Path]:
        """Return the paths of all images; images of a folder come before those of its subfolders."""
        paths = [Path(self.path, name) for name in self.images]
        for folder in self.folders:
            paths += folder.files()
        return paths


@dataclass
class Walk:
    """Result of a walk: the tree, and the paths of entries that are not part of it, by reason."""

    top: Folder
    hidden: list[str] = field(default_factory=list)
    """Hidden and system files and folders."""
    special: list[str] = field(default_factory=list)
    """Pipes, sockets and devices with the suffix of an image."""
    loops: list[str] = field(default_factory=list)
    """Links to a folder that contains them."""
    outside: list[str] = field(default_factory=list)
    """Links to places outside the top folder. They are followed."""
    linked: bool = False
    """Whether there are links at all."""

    def notes(self) -> list[str]:
        """Return one sentence for each reason."""
        top = self.top.path
        rows = (
            (self.hidden, "hidden or system entr{y|ies}", "left out"),
            (self.special, "special file{|s} (pipe, socket or device) named like an image", "left out"),
            (self.loops, "link{|s} to a folder that contains {it|them}", "not followed"),
            (self.outside, f"link{{|s}} to a place outside of {top}", "followed; data pack and data export copy what"),
        )
        notes = []
        for paths, what, action in rows:
            if paths:
                what = re.sub(r"\{(.*?)\|(.*?)\}", r"\1" if len(paths) == 1 else r"\2", what)
                action += (" it leads to" if len(paths) == 1 else " they lead to") if action.endswith("what") else ""
                first = os.path.relpath(paths[0], top) + (", ..." if len(paths) > 1 else "")
                notes.append(f"{len(paths):,} {what} in {top} ({first}): {action}")
        return notes


def walk(folder: Path) -> Walk:
    """Read the names of all images below `folder`.

    Raises:
        UserError: a folder cannot be read, or a link that may be a folder is broken, so that images would be missing.
    """
    result = Walk(Folder(str(folder), folder.name))
    _Walker(result, os.path.realpath(folder)).fill(result.top, ())
    return result


def is_image(name: str) -> bool:
    """Whether a file's name has the suffix of an image and is not hidden."""
    # Strings are faster than Path objects, which matters for a million files.
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")  # noqa: PTH122


class _Walker:
    def __init__(self, walk: Walk, root: str) -> None:
        self.walk, self.root = walk, root
        self.visits: dict[tuple[int, int], int] = {}

    def fill(self, folder: Folder, parents: tuple[tuple[int, int], ...]) -> None:
        """Read a folder and its subfolders.

        Args:
            parents: device and inode of the folders on the path to this one.
        """
        try:
            status = os.stat(folder.path)  # noqa: PTH116
            with os.scandir(folder.path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"folder {folder.path} cannot be read: {reason(error)}") from None
        identity = status.st_dev, status.st_ino
        self.visits[identity] = self.visits.get(identity, 0) + 1
        if len(parents) > MAX_DEPTH or self.visits[identity] > MAX_VISITS:
            problem = "is too deep" if len(parents) > MAX_DEPTH else f"is reached by more than {MAX_VISITS} links"
            raise UserError(f"folder {folder.path} {problem}: choose a folder that has only the images")
        parents = (*parents, identity)
        for entry in entries:
            self._add(folder, entry, parents)
        folder.total = len(folder.images) + sum(child.total for child in folder.folders)

    def _add(self, folder: Folder, entry: "os.DirEntry[str]", parents: tuple[tuple[int, int], ...]) -> None:
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
            self.walk.hidden.append(entry.path)
            return
        image = is_image(entry.name)
        link = entry.is_symlink()
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
            dangling = link and not os.path.exists(entry.path)  # noqa: PTH110
        except OSError:  # a link to itself
            is_folder, is_file, dangling = False, False, True
        if is_folder:
            status = entry.stat() if link else None
            if status and (status.st_dev, status.st_ino) in parents:
                self.walk.loops.append(entry.path)
                return
            child = Folder(entry.path, entry.name)
            self.fill(child, parents)
            folder.folders.append(child)
        elif image and (is_file or dangling):
            folder.images.append(entry.name)  # a dangling link is reported when it is read, by data.on_error
        elif image:
            self.walk.special.append(entry.path)
            return
        elif dangling and "." not in entry.name:
            raise UserError(f"{entry.path} is a broken link: repair it, or remove it if it is not needed")
        else:
            folder.others.append(entry.name)
            return
        if link:
            self.walk.linked = True
            if os.path.commonpath([os.path.realpath(entry.path), self.root]) != self.root:
                self.walk.outside.append(entry.path)

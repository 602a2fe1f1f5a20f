"""Archives of image folders: zip stored and deflated, tar plain and compressed."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from distdl.data.storage.download import build, extract
from fuzz.run import Target


def images() -> dict[str, bytes]:
    """Content of the archives: 10 files in two classes."""
    rng = np.random.default_rng(0)
    return {f"{'cat' if number % 2 else 'dog'}/{number}.jpg": rng.bytes(900) + bytes(300) for number in range(10)}


def seeds(_folder: Path) -> dict[str, bytes]:
    """The same files in each kind of archive."""
    files = {}
    for name, kind in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", kind) as zipped:
            for path, content in images().items():
                zipped.writestr(zipfile.ZipInfo(path), content, kind)
        files[name] = sink.getvalue()
    for mode in ("", "gz", "xz"):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode=f"w:{mode}") as tar:
            for path, content in images().items():
                head = tarfile.TarInfo(path)
                head.size = len(content)
                tar.addfile(head, io.BytesIO(content))
        files[f"images.tar{mode and '.' + mode}"] = sink.getvalue()
    return files


def check(folder: Path, name: str, content: bytes) -> None:
    """All files are unpacked, with their bytes (a plain tar has no checksum of those), or none is."""
    (folder / name).write_bytes(content)
    try:
        build(folder / "set", lambda scratch: extract(folder / name, scratch))
    except BaseException:
        assert [path.name for path in folder.iterdir() if path.name not in (name, "cache")] == [], "half a set remains"
        raise
    files = {str(path.relative_to(folder / "set")): path for path in (folder / "set").rglob("*") if path.is_file()}
    expected = images()
    assert files.keys() == expected.keys(), f"{len(files)} files of {len(expected)}: {sorted(files)}"
    for path, file in files.items():
        same = file.read_bytes() == expected[path]
        assert same or (name.endswith(".tar") and file.stat().st_size == len(expected[path])), f"{path} differs"


TARGET = Target(seeds=seeds, check=check, share=10)

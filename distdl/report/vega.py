"""The JavaScript that draws figures in a page: Vega, Vega-Lite and Vega-Embed, as they lie in vl-convert-python."""

import base64
import contextlib
import gzip
import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from distdl.report.figure_files import converter


class Library(NamedTuple):
    packed: str
    """gzip, then base64: 0.4 MB in a page, which unpacks it, in place of 0.9."""
    sha256: str
    """Of the unpacked text, base64: the page's content security policy lets this script run and no other."""


def library() -> Library:
    """Put together once (1.5 s), then kept in the user's cache folder under the version that it is of."""
    bundle = converter().javascript_bundle
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distdl"
    file = cache / f"vega-{version('vl-convert-python')}.txt"
    with contextlib.suppress(OSError, ValueError):
        sha256, packed = file.read_text(encoding="ascii").split("\n")
        if _sha256(gzip.decompress(base64.b64decode(packed))) == sha256:
            return Library(packed, sha256)
    code = f"(() => {{\n{bundle()}\n}})();".encode()  # a module: its names are its own
    made = Library(base64.b64encode(gzip.compress(code, mtime=0)).decode(), _sha256(code))
    with contextlib.suppress(OSError):  # a home that cannot be written to costs time only
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, encoding="ascii", delete=False) as beside:
            beside.write(f"{made.sha256}\n{made.packed}")
        Path(beside.name).replace(file)
    return made


def _sha256(code: bytes) -> str:
    return base64.b64encode(hashlib.sha256(code).digest()).decode()

"""JavaScript libraries that draw figures in a page: Vega, Vega-Lite and Vega-Embed, from vl-convert-python."""

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
    """A script for a page."""

    packed: str
    """The script compressed by gzip and encoded as base64: 0.4 MB instead of 0.9 MB; the page unpacks it."""
    sha256: str
    """Base64 hash of the script; the content security policy of the page allows scripts by their hash."""


def library() -> Library:
    """Bundle the script, which takes 1.5 s, or read it from the user's cache folder, where it is stored by version."""
    bundle = converter().javascript_bundle
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distdl"
    file = cache / f"vega-{version('vl-convert-python')}.txt"
    with contextlib.suppress(OSError, ValueError):
        sha256, packed = file.read_text(encoding="ascii").split("\n")
        if _sha256(gzip.decompress(base64.b64decode(packed))) == sha256:
            return Library(packed, sha256)
    code = f"(() => {{\n{bundle()}\n}})();".encode()  # in a separate scope
    bundled = Library(base64.b64encode(gzip.compress(code, mtime=0)).decode(), _sha256(code))
    with contextlib.suppress(OSError):  # without a writable cache, the next page takes longer
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, encoding="ascii", delete=False) as temporary:
            temporary.write(f"{bundled.sha256}\n{bundled.packed}")
        Path(temporary.name).replace(file)
    return bundled


def _sha256(code: bytes) -> str:
    return base64.b64encode(hashlib.sha256(code).digest()).decode()

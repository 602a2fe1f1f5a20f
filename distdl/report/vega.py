"""JavaScript libraries that draw figures in a page: Vega, Vega-Lite and Vega-Embed, from vl-convert-python."""

import base64
import contextlib
import gzip
import hashlib
import io
import zlib
from importlib.metadata import version
from typing import NamedTuple

from distdl.core.files import write_atomic
from distdl.core.paths import cache_folder
from distdl.core.regular import read_regular
from distdl.report.figure_files import converter

SCRIPTS = {"1.9.0.post1": "kih3FWU1kZPnRZhYlU38+NTQ0vblnP4xnOXXXQ3OcbA="}
"""Hash of the script by version of vl-convert-python, as `library` computes it. tests/report/test_vega.py compares the
installed version."""
LARGEST_BYTES = 2**24
"""Maximum size of the script, packed or not."""


class Library(NamedTuple):
    """A script for a page."""

    packed: str
    """The script compressed by gzip and encoded as base64: 0.4 MB instead of 0.9 MB; the page unpacks it."""
    sha256: str
    """Base64 hash of the script; the content security policy of the page allows scripts by their hash."""


def library() -> Library:
    """Bundle the script, which takes seconds, or read it from the user's cache folder.

    The cached script is used only if it is the one of the installed version, whose hash is in SCRIPTS: other users may
    be able to write to the cache folder. For versions without a hash the script is bundled for each page.
    """
    expected = SCRIPTS.get(version("vl-convert-python"))
    file = cache_folder() / f"vega-{version('vl-convert-python')}.txt"
    if expected:
        with contextlib.suppress(OSError, ValueError, EOFError, zlib.error):
            packed = read_regular(file, LARGEST_BYTES)
            if _sha256(_unpacked(packed)) == expected:
                return Library(packed.decode("ascii"), expected)
    code = f"(() => {{\n{converter().javascript_bundle()}\n}})();".encode()  # in a separate scope
    packed = base64.b64encode(gzip.compress(code, mtime=0))
    if _sha256(code) == expected:
        with contextlib.suppress(OSError):  # without a writable cache, the next page takes longer
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, lambda sink: sink.write(packed))
    return Library(packed.decode("ascii"), _sha256(code))


def _unpacked(packed: bytes) -> bytes:
    with gzip.open(io.BytesIO(base64.b64decode(packed))) as source:
        return source.read(LARGEST_BYTES)


def _sha256(code: bytes) -> str:
    return base64.b64encode(hashlib.sha256(code).digest()).decode()

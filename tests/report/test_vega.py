"""The script of a page comes from the installed package; what the cache holds is used only if it is the same script."""

import base64
import gzip
import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest

from distdl.report import vega
from distdl.report.vega import SCRIPTS, library
from repository import ROOT

VERSION = version("vl-convert-python")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "distdl" / f"vega-{VERSION}.txt"


def script(packed: str) -> bytes:
    return gzip.decompress(base64.b64decode(packed))


def test_the_installed_version_has_a_hash_and_is_the_pinned_one() -> None:
    assert VERSION in SCRIPTS, "add the hash of the new version's script"
    assert f"vl-convert-python=={VERSION}" in (ROOT / "constraints.txt").read_text()


def test_the_script_is_bundled_once_and_read_from_the_cache(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = library()
    digest = base64.b64encode(hashlib.sha256(script(first.packed)).digest()).decode()
    assert first.sha256 == SCRIPTS[VERSION] == digest
    assert cached.read_text() == first.packed
    monkeypatch.setattr(vega, "converter", lambda: pytest.fail("bundled again"))
    assert library() == first


def packed(code: bytes) -> str:
    return base64.b64encode(gzip.compress(code, mtime=0)).decode()


EVIL = b"document.title = 'OWNED'"
CACHED = {
    "another script": packed(EVIL),
    "another script with its hash": f"{base64.b64encode(hashlib.sha256(EVIL).digest()).decode()}\n{packed(EVIL)}",
    "nothing": "",
    "not base64": "\xe9",
    "not gzip": base64.b64encode(b"x" * 100).decode(),
    "cut off": packed(EVIL)[:20],
    "a bomb": packed(bytes(2**27)),
}


@pytest.mark.parametrize("content", CACHED.values(), ids=CACHED)
def test_a_changed_file_in_the_cache_is_not_used(content: str, cached: Path) -> None:
    cached.parent.mkdir()
    cached.write_text(content)
    assert library().sha256 == SCRIPTS[VERSION]
    assert b"OWNED" not in script(cached.read_text())


def test_an_unknown_version_is_bundled_and_not_cached(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = SCRIPTS[VERSION]
    monkeypatch.setattr(vega, "SCRIPTS", {})
    cached.parent.mkdir()
    cached.write_text(packed(EVIL))
    assert library().sha256 == known
    assert cached.read_text() == packed(EVIL)

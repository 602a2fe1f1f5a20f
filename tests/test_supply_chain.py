"""All that make, the images and the workflows install is pinned with hashes, and downloads use HTTPS."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from distdl.data.sets.catalog import SETS
from repository import ROOT

PINNED = ("constraints.txt", "containers/uv.txt", "containers/horovod/tools.txt", ".github/tools.txt")
REQUIREMENT = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")
BY_OTHERS = {"distdl", "horovod", "pip", "uv", "my-components", "batch-size"}
"""Packages of this repository, and those that a virtual environment or another pinned file brings."""
SCRIPTS = ("Makefile", "containers/install.sh", "containers/horovod/build.sh", "containers/Dockerfile")


def committed(name: str) -> str:
    """Content of a file; in the workflow tests, which changes constraints.txt, that of the newest commit."""
    if "GITHUB_ACTIONS" not in os.environ:
        return (ROOT / name).read_text(encoding="utf-8")
    done = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:{name}"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("name", PINNED)
def test_each_pinned_version_has_hashes(name: str) -> None:
    text = "\n".join(line for line in committed(name).splitlines() if not line.startswith("#"))
    entries = re.split(r"\n(?=\S)", text.strip())
    assert [entry for entry in entries if not REQUIREMENT.fullmatch(entry)] == []
    names = [entry.partition("==")[0] for entry in entries]
    assert len(set(names)) == len(names) and names == sorted(names)


def test_every_installed_package_is_pinned() -> None:
    """uv does not verify a package that is not in constraints.txt."""
    pinned = set(re.findall(r"^([\w.-]+)==", committed("constraints.txt"), re.MULTILINE))
    installed = {each.metadata["Name"].lower().replace("_", "-").replace(".", "-") for each in metadata.distributions()}
    assert len(installed) > 100
    assert installed - pinned - BY_OTHERS == set()


def test_a_changed_file_is_not_installed(tmp_path: Path) -> None:
    """The option of uv that the Makefile and the images use compares the hashes of a constraint."""
    options = re.findall(r"--constraint \S+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert options == ["--constraint constraints.txt"]
    entry = re.search(r"^iniconfig==(?:.*\\\n)+.*$", committed("constraints.txt"), re.MULTILINE)
    assert entry is not None
    command = [Path(sys.executable).with_name("uv"), "pip", "install", "--python", sys.executable, "iniconfig"]
    for hashes, code in ((entry[0], 0), (re.sub(r"sha256:\w{8}", "sha256:00000000", entry[0]), 1)):
        (tmp_path / "constraints.txt").write_text(hashes + "\n")
        more = ["--constraint", tmp_path / "constraints.txt", "--target", tmp_path / f"target{code}"]
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("hash" in done.stderr.lower() and "sha256:00000000" in done.stderr) is bool(code), done.stderr


@pytest.mark.parametrize(
    "name", [*SCRIPTS, *(str(file.relative_to(ROOT)) for file in ROOT.glob(".github/workflows/*"))]
)
def test_no_tool_is_installed_without_a_hash(name: str) -> None:
    """pip installs files with hashes, and wheels that were built here; uv has the constraints."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    installs = [line for line in text.splitlines() if re.search(r"\bpip\"? (install|download)\b", line)]
    for line in installs:
        if line.startswith("#"):
            continue
        assert re.search(r"--require-hashes|--constraint|--hash|\.whl|/requirement\.txt", line), line


def test_data_sets_are_downloaded_by_https_with_a_checksum() -> None:
    files = [file for source in SETS.values() for file in source.files]
    assert len(files) >= 10
    for url, checksum in files:
        assert url.startswith("https://") and re.fullmatch(r"[0-9a-f]{32}", checksum), url

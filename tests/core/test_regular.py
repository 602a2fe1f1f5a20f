"""Only regular files are read: neither a pipe, a socket nor a device makes a command wait, and sizes are limited."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from distdl.core import regular
from distdl.core.regular import lines_of, open_regular, read_regular, require_regular
from repository import ROOT
from special_files import SPECIAL

METHODS = {"read_text", "read_bytes"}
READS = {"fromfile", "loadtxt", "load_file", "ZipFile"}
"""Functions and methods that open a file by its name and read it."""
OTHERS = ("os.", "gzip.", "tarfile.", "Image.", "StudyFolder.", "webbrowser.")
"""Prefixes of calls of open that are in LOADS, or open no file."""
LOADS = {"np.load", "numpy.load", "torch.load", "json.load", "tomllib.load", "gzip.open", "tarfile.open", "Image.open"}
ALLOWED = {
    "core/regular.py: open": "the only place that opens files to read them",
    "core/targets.py: read_bytes": "a Python module of the user, which is executed",
    "core/userfiles.py: read_bytes": "a file of the package",
    "cli/train.py: read_text": "a file of the package",
    "report/page.py: read_text": "a file of the package",
    "report/page.py: Image.open": "bytes in memory",
    "report/vega.py: gzip.open": "bytes in memory",
    "report/figure_files.py: Image.open": "bytes in memory",
    "runtime/cores.py: read_text": "a file of the kernel",
    "launchers/netns.py: read_text": "a file of the kernel, or of the launcher itself",
    "launchers/slices.py: open": "the log of the job itself",
    "launchers/ledger.py: read_bytes": "written by the job itself",
    "verify/trial.py: read_text": "the log of a process that this command started",
    "data/files.py: fromfile": "of an open file, and of a shard that was opened when it was scanned",
    "data/sets/idx_cifar.py: gzip.open": "of an open file, and digits of scikit-learn",
    "data/sets/idx_cifar.py: loadtxt": "digits of scikit-learn",
    "data/storage/archives.py: ZipFile": "after require_regular",
    "data/storage/archives.py: tarfile.open": "after open_regular",
    "data/storage/npz.py: ZipFile": "after require_regular",
    "data/storage/npz.py: np.load": "after require_regular",
    "models/weights.py: load_file": "after require_regular",
    "runtime/tensors.py: ZipFile": "after require_regular",
    "runtime/tensors.py: torch.load": "after require_regular",
    "data/storage/image_header.py: open": "bytes in memory",
    "data/storage/archives.py: open": "a member of an open archive",
    "launchers/netns.py: open": "a file of the kernel",
    "profiling/published_networks.py: open": "a published table",
    "strategies/paramserver/worker.py: open": "StepRecords.open",
    "studies/features/extract.py: load_file": "after require_regular",
    "telemetry/nvml.py: open": "a class method",
}
"""Calls that read a file without distdl.core.regular, and why."""


def calls(file: Path) -> Iterator[str]:
    """Calls in a module that open a file for reading."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        short = name.rpartition(".")[2]
        if name in LOADS or short in READS or (short in METHODS and "." in name):
            yield name if name in LOADS else short
        elif short == "open" and not name.startswith(OTHERS) and _reads(node, method="." in name):
            yield "open"


def _reads(call: ast.Call, *, method: bool) -> bool:
    """Whether a call of open() may read: its mode is absent, not a literal, or has neither w, a nor x."""
    place = 0 if method else 1
    modes = (
        [call.args[place]] if len(call.args) > place else [each.value for each in call.keywords if each.arg == "mode"]
    )
    if not modes:
        return True
    return not (isinstance(modes[0], ast.Constant) and set(str(modes[0].value)) & set("wax"))


def test_files_are_read_only_where_pipes_and_devices_are_refused() -> None:
    package = ROOT / "distdl"
    reading_calls = {f"{file.relative_to(package)}: {call}" for file in package.rglob("*.py") for call in calls(file)}
    assert reading_calls - ALLOWED.keys() == set(), "use distdl.core.regular or distdl.core.userfiles"
    assert ALLOWED.keys() - reading_calls == set(), "no longer needed"


@pytest.mark.parametrize("kind", SPECIAL)
def test_special_files_are_refused_without_waiting(kind: str, tmp_path: Path) -> None:
    SPECIAL[kind](tmp_path / "file")
    for read in (open_regular, require_regular, read_regular):
        with pytest.raises(OSError, match="it is not a regular file"):
            read(tmp_path / "file")


def test_a_folder_and_a_missing_file_keep_their_own_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == read_regular(str(file)) == b"12345"
    require_regular(file)
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_regular(file, 4)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """It has 4 TB, which no memory holds, and takes no space on the disk."""
    with (tmp_path / "file").open("wb") as sink:
        sink.truncate(2**42)
    with pytest.raises(OSError, match="it has more than 268,435,456 bytes"):
        read_regular(tmp_path / "file")


def test_a_line_may_have_a_maximum_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "LONGEST_LINE", 4)
    file = tmp_path / "file"
    file.write_bytes(b"123\n1234")
    with open_regular(file) as source:
        assert list(lines_of(source)) == [b"123\n", b"1234"]
    file.write_bytes(b"123\n1234\n")
    with open_regular(file) as source, pytest.raises(OSError, match="it has a line of more than 4 bytes"):
        list(lines_of(source))

"""Processes of a trial, and their end."""

import subprocess
from pathlib import Path

import psutil
import pytest

from distdl.studies.runner import process


def test_a_process_that_ends_by_itself_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    seen = psutil.Process(child.pid)
    child.kill()
    child.wait()
    monkeypatch.setattr(psutil, "process_iter", lambda: [seen])
    monkeypatch.setattr(process, "_marked", lambda *_: True)
    process.clear(tmp_path)

"""The study that a folder names: another user may have written the folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANTED = "from pathlib import Path\nPath('ran').touch()\nSTUDY = None\n"


@pytest.mark.parametrize("verb", [["study", "show", "."], ["report", "."]])
@pytest.mark.parametrize("path", [None, "."])
def test_a_module_of_the_current_folder_is_imported_only_with_pythonpath(verb: list[str], path: str | None) -> None:
    Path("evil.py").write_text(PLANTED, encoding="utf-8")
    Path("study.toml").write_text('study = "evil:STUDY"\n[settings]\n', encoding="utf-8")
    environ = {**os.environ} | ({"PYTHONPATH": path} if path else {})
    argv = [sys.executable, "-P", "-m", "distdl.cli", *verb]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert Path("ran").exists() == bool(path)
    if not path:
        assert "names evil:STUDY, and evil is not installed: if you trust this module of the current" in done.stderr

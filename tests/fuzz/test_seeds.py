"""Each fuzz target reads its undamaged files correctly; otherwise all its inputs would count as refused."""

import importlib
from pathlib import Path

import pytest

from fuzz.test_fuzz import SHARES


@pytest.mark.parametrize("target", SHARES)
def test_undamaged_files_are_read_correctly(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kind = importlib.import_module(f"fuzz.targets.{target}").TARGET
    for number, (name, content) in enumerate(kind.seeds(tmp_path).items()):
        (tmp_path / f"scratch{number}").mkdir()
        kind.check(tmp_path / f"scratch{number}", name, content)

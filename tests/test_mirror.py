"""Every module of the core packages has a test module with the same path in tests/."""

from pathlib import Path

import pytest

from repository import ROOT, TESTS

MIRRORED = ("core", "runtime", "strategies", "training", "data/loaders")
WITHOUT_TESTS: dict[str, str] = {}
"""Modules without a test module, with the reason."""


PACKAGE = ROOT / "distdl"
MODULES = [
    file.relative_to(PACKAGE).as_posix()
    for part in MIRRORED
    for file in sorted((PACKAGE / part).rglob("*.py"))
    if file.name != "__init__.py"
]
"""Modules of the packages, by path."""


def test_the_modules_are_found() -> None:
    assert len(MODULES) > 90
    assert WITHOUT_TESTS.keys() <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_test_module_with_the_same_path(module: str) -> None:
    path = Path(module)
    file = TESTS / path.with_name(f"test_{path.name}")
    assert file.is_file() is (module not in WITHOUT_TESTS), file.relative_to(ROOT)

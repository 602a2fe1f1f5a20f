"""Every module of the spine has a test module of its own, in the same place of tests/."""

from pathlib import Path

import pytest

from repository import ROOT, TESTS

SPINE = ("core", "runtime", "strategies", "training", "data/loaders")
WITHOUT_TESTS: dict[str, str] = {}
"""Modules without a test module, with the reason."""


PACKAGE = ROOT / "distdl"
MODULES = [
    file.relative_to(PACKAGE).as_posix()
    for part in SPINE
    for file in sorted((PACKAGE / part).rglob("*.py"))
    if file.name != "__init__.py"
]
"""Modules of the spine, by their path in the package."""


def test_the_spine_is_found() -> None:
    assert len(MODULES) > 90
    assert WITHOUT_TESTS.keys() <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_test_module_in_the_same_place(module: str) -> None:
    path = Path(module)
    file = TESTS / path.with_name(f"test_{path.name}")
    assert file.is_file() is (module not in WITHOUT_TESTS), file.relative_to(ROOT)

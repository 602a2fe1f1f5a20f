"""Every "package.module:attribute" text in the package can be imported; linters do not check them."""

import ast
import contextlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from distdl.core.renamed import MODULES
from repository import ROOT

TARGET = re.compile(r"distdl\.([a-z_]\w*)(?:\.[a-z_]\w*)*(:[A-Za-z_]\w*)?")
PACKAGES = {folder.name for folder in (ROOT / "distdl").iterdir() if folder.is_dir()}


def targets(file: Path) -> Iterator[tuple[str, int]]:
    """Texts that name a module of distdl or one of its attributes, with line numbers."""
    source = file.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)) if '"distdl.' in source else ():  # parsing all files takes seconds
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        match = TARGET.fullmatch(text)
        if match and (match[2] or match[1] in PACKAGES):  # "distdl.broadcast" names an operation
            yield text, node.lineno


FOUND = {
    f"{text}@{file.relative_to(ROOT)}:{line}": text
    for file in sorted((ROOT / "distdl").rglob("*.py"))
    for text, line in targets(file)
}


def test_there_are_targets() -> None:
    assert len(FOUND) > 60


@pytest.mark.parametrize("where", FOUND)
def test_a_target_can_be_imported(where: str) -> None:
    name, _, attribute = FOUND[where].partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("distdl"):
            raise
        pytest.skip(f"{error.name} is not installed")
    with contextlib.nullcontext() if FOUND[where] not in MODULES else pytest.warns(DeprecationWarning):
        assert not attribute or hasattr(module, attribute)

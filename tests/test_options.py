"""Every field of `Config` has an effect that a test observes: the table of fields, effects and tests."""

import ast
import functools
import re
from pathlib import Path

import pytest

from distdl.core.config import Config
from distdl.core.profiles import field_names
from option_effects import EFFECTS
from repository import TESTS


def test_every_field_has_a_row() -> None:
    assert list(EFFECTS) == list(field_names(Config))


@functools.cache
def definitions(file: Path) -> dict[str, ast.AST]:
    """Functions, classes, constants and imports of a module, by name."""
    return {name: node for node in ast.parse(file.read_text(encoding="utf-8")).body for name in _names(node)}


def _names(node: ast.AST) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = [target.id for target in targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else named


def source(file: Path, test: str) -> str:
    """Text of a test, with the functions, fixtures and constants of its module that it uses, also indirectly."""
    known, waiting, used = definitions(file), [test], {}
    while waiting:
        name = waiting.pop()
        if name in known and name not in used:
            used[name] = ast.unparse(known[name])
            inner = list(ast.walk(known[name]))
            waiting += [each.id for each in inner if isinstance(each, ast.Name)]
            waiting += [each.arg for each in inner if isinstance(each, ast.arg)]
    return "\n".join(used.values())


@pytest.mark.parametrize("field", EFFECTS)
def test_the_tests_of_a_field_exist_and_mention_it(field: str) -> None:
    effect, *tests = EFFECTS[field]
    assert effect.endswith(".") and tests
    option = field.rpartition(".")[2].replace("_", "[-_]")
    for node in tests:
        name, *path = node.split("::")
        file = TESTS / name
        text = source(file, path[0]) if file.is_file() else ""
        assert f"def {path[-1]}(" in text, f"{node} does not exist"
        assert re.search(rf"(?<![a-z_]){option}(?![a-z_])", text), f"{node} does not mention {field}"

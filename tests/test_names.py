"""Names of distdl: a public class or type alias has one meaning in the whole package."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT

TYPE_NAME = re.compile(r"[A-Z][a-z]\w*")


def types_of(file: Path) -> Iterator[str]:
    """Names of the public classes of a module, and of its type aliases."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name[0] != "_")
    assigned = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
    yield from (each.id for each in assigned if isinstance(each, ast.Name) and TYPE_NAME.fullmatch(each.id))


def test_each_public_type_is_defined_once() -> None:
    places = defaultdict(list)
    for file in sorted((ROOT / "distdl").rglob("*.py")):
        for name in types_of(file):
            places[name].append(file.relative_to(ROOT).as_posix())
    assert len(places) > 300  # the search finds them
    assert {name: files for name, files in places.items() if len(files) > 1} == {}

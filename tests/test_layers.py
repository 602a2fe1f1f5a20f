"""Layers of pyproject.toml: they allow no unused import (import-linter checks that no import breaks them)."""

import itertools
import re
import tomllib

import grimp
import pytest

from repository import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LAYERS = {contract["name"]: contract for contract in CONTRACTS if contract["type"] == "layers"}
UNUSED = {("distdl.planner", "distdl.training | distdl.report")}
"""Allowed imports that are not used yet: the planner will compare finished runs with their prediction."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("distdl", cache_dir=None)


def imports(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    return [
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    ]


def members(layer: str) -> tuple[str, ...]:
    """Prefixes of the modules of a layer."""
    return tuple(f"{name.strip()}." for name in re.split("[|:]", layer))


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_imports_from_the_next(name: str, graph: grimp.ImportGraph) -> None:
    """Two layers without an import between them should be siblings, which is stricter."""
    contract, used = LAYERS[name], imports(graph)
    prefix = "".join(f"{container}." for container in contract.get("containers", ()))
    layers = [" | ".join(prefix + part.strip() for part in layer.split("|")) for layer in contract["layers"]]
    assert not any(":" in layer for layer in layers)  # siblings that may import each other
    unused = {
        (upper, lower)
        for upper, lower in itertools.pairwise(layers)
        if not any(
            f"{importer}.".startswith(members(upper)) and f"{imported}.".startswith(members(lower))
            for importer, imported in used
        )
    }
    assert unused == {pair for pair in UNUSED if set(pair) <= set(layers)}


def test_there_are_no_circular_imports(graph: grimp.ImportGraph) -> None:
    cyclic = {
        tuple(sorted((importer, imported)))
        for importer, imported in imports(graph)
        if graph.chain_exists(importer=imported, imported=importer)
    }
    assert not cyclic

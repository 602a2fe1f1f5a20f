"""Trials of study `decathlon`: one domain, learned on frozen features or by fine-tuning; or said to be missing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distdl.cli import train as training
from distdl.cli.recipe import from_command_line
from distdl.core.errors import EXIT_DONE, UserError
from distdl.core.result import current_result
from distdl.data.sets.load import load, locate, source_of
from distdl.studies.features import extract as features


def extract(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Last layers on the domain's features, as `features.grid`; `missing` says why there are none."""
    return _missing(table) or {**_described(table), **features.grid(folder, table)}


def tune(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """The training that `table["words"]` asks for, in `folder`; its result, or `missing`."""
    if missing := _missing(table):
        return missing
    code = training.main([*table["words"], "--out", str(folder), "--resume", "auto"])
    if code != EXIT_DONE:
        raise SystemExit(code)  # stopped, or failed: it has said why
    return current_result(folder)


def _missing(table: Mapping[str, Any]) -> dict[str, Any]:
    data = from_command_line(table["words"], strategy="single").data
    try:
        locate(data.name, source_of(data.name), data.root)
    except UserError as error:
        return {"missing": str(error)}
    return {}


def _described(table: Mapping[str, Any]) -> dict[str, Any]:
    dataset = load(from_command_line(table["words"], strategy="single").data)
    return {"classes": len(dataset.classes), "trained_on": len(dataset.train), "tested_on": len(dataset.test)}

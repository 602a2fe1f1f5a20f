"""Trials of study `decathlon`: train one domain, on frozen features or fine-tuned, or report it as missing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from distdl.core.errors import EXIT_STOPPED, UserError
from distdl.core.profiles import Recipe, resolve
from distdl.core.result import current_result
from distdl.data.sets.load import load, locate, source_of
from distdl.runtime import cores
from distdl.strategies.base import make
from distdl.studies.features import extract as features
from distdl.training.session import train


def extract(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Train last layers on the domain's features by `features.grid`. Returns the result, or a reason as `missing`."""
    return _missing(table) or {**_described(table), **features.grid(folder, table)}


def tune(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Train by the recipe, with `folder` as the run folder. Returns the result, or a reason as `missing`."""
    if missing := _missing(table):
        return missing
    cores.passive_waiting()
    cores.observe_start()
    config = resolve(Recipe(**table["recipe"]).updated({"out": folder, "resume": "auto"}), strategy="single")
    strategy = make(config)
    strategy.setup()
    try:
        status = train(config, strategy, began=psutil.Process().create_time())
    finally:
        strategy.close()
    if status != "completed":
        raise SystemExit(EXIT_STOPPED)
    return current_result(folder)


def _missing(table: Mapping[str, Any]) -> dict[str, Any]:
    data = resolve(Recipe(**table["recipe"]), strategy="single").data
    try:
        locate(data.name, source_of(data.name), data.root)
    except UserError as error:
        return {"missing": str(error)}
    return {}


def _described(table: Mapping[str, Any]) -> dict[str, Any]:
    dataset = load(resolve(Recipe(**table["recipe"]), strategy="single").data)
    return {"classes": len(dataset.classes), "trained_on": len(dataset.train), "tested_on": len(dataset.test)}

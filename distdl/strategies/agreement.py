"""Check before a training that all ranks have the same configuration, software versions and data."""

import dataclasses
import hashlib
import json
import os
import pwd
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import torch

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.layering import TABLES
from distdl.data.dataset import DataSet
from distdl.strategies.base import Strategy
from distdl.strategies.text import gather_text

LOCAL = (
    *("resume", "progress", "log_every_s", "telemetry", "predict", "slurm"),
    *("data.root", "data.workers", "compute.threads"),
)
"""Fields and sections that may differ across ranks: only rank 0 reads them, or they describe one host."""


def agree(strategy: Strategy, config: Config, dataset: DataSet) -> None:
    """Compare configuration, versions and data set across ranks. Called once on every rank, before training.

    Raises:
        UserError: on every rank, naming the first field that differs, its values and their ranks.
    """
    text = json.dumps(facts(config, strategy.name, dataset))
    digest = hashlib.sha256(text.encode()).hexdigest()
    if len(set(gather_text(strategy, digest))) > 1:
        raise UserError(difference([json.loads(each) for each in gather_text(strategy, text)]))


def facts(config: Config, strategy: str, dataset: DataSet) -> dict[str, str]:
    """Return the values that must be equal on all ranks, by name."""
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    return {
        "user": _user(),
        "version of distdl": metadata.version("distdl"),
        "version of torch": torch.__version__,
        "strategy": strategy,
        **{name: str(value) for name, value in _fields(dataclasses.asdict(config)) if name != "strategy"},
        "data set": str(dataset.name),
        **{f"samples in {name}": str(len(split)) for name, split in splits.items() if split is not None},
        "number of classes": str(len(dataset.classes)),
        "names of the classes (digest)": hashlib.sha256(json.dumps(list(dataset.classes)).encode()).hexdigest()[:16],
    }


def _user() -> str:
    """Name of the owner of this process: a rank of somebody else's job has connected to this one."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without an entry for the user
        return str(os.getuid())


def _fields(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = prefix + key
        if name not in LOCAL:
            rows += _fields(value, f"{name}.") if isinstance(value, Mapping) and name not in TABLES else [(name, value)]
    return rows


def difference(by_rank: Sequence[Mapping[str, str]]) -> str:
    """Return an error message about the first value that differs across ranks."""
    names = list(dict.fromkeys(name for rank_facts in by_rank for name in rank_facts))
    differing = [name for name in names if len({rank_facts.get(name) for rank_facts in by_rank}) > 1]
    first = differing[0]
    ranks: dict[str, list[int]] = {}
    for rank, rank_facts in enumerate(by_rank):
        ranks.setdefault(rank_facts.get(first, "absent"), []).append(rank)
    values = ", ".join(f"{value} on {_ranks(members)}" for value, members in ranks.items())
    also = f" (also different: {', '.join(differing[1:])})" if differing[1:] else ""
    return f"the ranks do not run the same training: {first} is {values}{also}; start every rank with the same command"


def _ranks(members: Sequence[int], most: int = 8) -> str:
    more = f" and {len(members) - most} more" if len(members) > most else ""
    return f"rank{'s' if len(members) > 1 else ''} {', '.join(map(str, members[:most]))}{more}"

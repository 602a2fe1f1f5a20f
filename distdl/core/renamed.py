"""Old names of configuration fields. They work in version 0.2, with a warning."""

import warnings
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "optim.lr_batch": "optim.lr_reference_batch",
    "schedule.rise": "schedule.warmup_fraction",
    "ps.survive": "ps.tolerate_worker_loss",
}
"""New names by old name, both dotted."""


def current_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the table of a profile with new names instead of old ones. Each old name causes a FutureWarning."""
    renamed = dict(table)
    for old in RENAMED:
        section, field = old.split(".")
        fields = renamed.get(section)
        if isinstance(fields, Mapping) and field in fields:
            others = {name: value for name, value in fields.items() if name != field}
            renamed[section] = {**others, current_name(old).rpartition(".")[2]: fields[field]}
    return renamed


def current_name(name: str) -> str:
    """The new name of a field, with a FutureWarning if `name` is an old one."""
    if name not in RENAMED:
        return name
    warnings.warn(f"{name} is now {RENAMED[name]}; the old name stops working in 0.3", FutureWarning, stacklevel=2)
    return RENAMED[name]

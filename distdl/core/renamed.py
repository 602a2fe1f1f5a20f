"""Old names of configuration fields and of modules. They work in version 0.2, with a warning."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "optim.lr_batch": "optim.lr_reference_batch",
    "schedule.rise": "schedule.warmup_fraction",
    "ps.survive": "ps.tolerate_worker_loss",
}
"""New names of fields by old name, both dotted."""
COMPONENTS = {("launchers", "torchrun"): "direct"}
"""New names of components, by kind and old name."""
MODULES = {
    "distdl.cli:main": "distdl.cli.__main__:main",
    "python -m distdl.launchers.slices": "distdl slurm",
    "python -m distdl.studies.task": "python -m distdl.studies.runner.trial_process",
}
"""New names of commands and functions that programs of version 0.1 call, by old name."""


def warn_renamed(old: str, new: str, category: type[Warning], *, where: str = "", stacklevel: int = 1) -> None:
    """Warn that `old` is now `new`. A terminal shows one line, without the line of source that Python adds.

    Args:
        where: the file with the old name.
        stacklevel: as of `warnings.warn`; 1 is the caller.
    """
    message = f"{where}{': ' if where else ''}{old} is now {new}; the old name stops working in 0.3"
    previous, warnings.formatwarning = warnings.formatwarning, _line
    try:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    finally:
        warnings.formatwarning = previous


def warn_old_module(old: str, *, stacklevel: int = 1) -> None:
    """Warn that a command or function of `MODULES` has a new name."""
    warn_renamed(old, MODULES[old], DeprecationWarning, stacklevel=stacklevel + 1)


def _line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {message}\n"


def current_names(table: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """A copy of the table of a profile with new names instead of old ones. Each old name causes a FutureWarning.

    Args:
        where: the file of the profile, for the warning.
    """
    renamed = dict(table)
    for old in RENAMED:
        section, field = old.split(".")
        fields = renamed.get(section)
        if isinstance(fields, Mapping) and field in fields:
            others = {name: value for name, value in fields.items() if name != field}
            renamed[section] = {**others, current_name(old, where).rpartition(".")[2]: fields[field]}
    return renamed


def current_name(name: str, where: str = "") -> str:
    """The new name of a field, with a FutureWarning if `name` is an old one."""
    if name not in RENAMED:
        return name
    warn_renamed(name, RENAMED[name], FutureWarning, where=where, stacklevel=2)
    return RENAMED[name]


def current_option(option: str) -> str:
    """The new name of an option of a field (`--ps.survive`, `--ps.no-survive`), with a FutureWarning if it is old."""
    match = re.fullmatch(r"--([a-z]+)\.(no[-_])?(.+)", option)
    new = RENAMED.get(f"{match[1]}.{match[3].replace('-', '_')}") if match else None
    if match is None or new is None:
        return option
    section, field = new.split(".")
    renamed = f"--{section}.{match[2] or ''}{field.replace('_', '-') if '-' in option[2:] else field}"
    warn_renamed(option, renamed, FutureWarning, stacklevel=2)
    return renamed

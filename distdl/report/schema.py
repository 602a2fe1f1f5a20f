"""The values that a report reads of a run's files, by name and kind. A value of another kind is left out, and named.

A kind is a predicate, a table of kinds by name, `Each(kind)` for a table with any names, or `[kind]` for a list. None
counts as absent, and names that no report reads are passed over.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError, reading
from distdl.core.text import name as shown_name
from distdl.core.userfiles import read_text

LARGEST = 1e100
"""No measurement is larger. Arithmetic on what is smaller stays within a float."""
DEEPEST = 20
"""Tables and lists inside each other: deeper ones are damage, and would exhaust the stack of whoever walks through."""
MOST_NAMED = 8
"""Names of odd values that a note lists at most."""

Kind = Any


@dataclass(frozen=True)
class Each:
    """A table whose values are all of one kind."""

    kind: Kind


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if type(value) in (float, int) and -LARGEST <= value <= LARGEST:  # not bool; not NaN
        return float(value)
    return None


def finite(value: Any) -> bool:
    return number(value) is not None


def measured(value: Any) -> bool:
    """A number that may have diverged."""
    return finite(value) or (type(value) is float and not math.isfinite(value))


def amount(value: Any) -> bool:
    return type(value) in (float, int) and 0 <= value <= LARGEST


def count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def text(value: Any) -> bool:
    return isinstance(value, str)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def scalar(value: Any) -> bool:
    return text(value) or flag(value) or measured(value)


EVALUATION = {"accuracy": finite, "loss": measured}
RESULT: dict[str, Kind] = {
    **dict.fromkeys(("status", "name", "strategy", "device", "idle_of"), text),
    **dict.fromkeys(("steps", "world_size", "global_batch"), count),
    **dict.fromkeys(("train_s", "evaluate_s", "checkpoint_s", "start_s", "warm_s", "held_s", "epochs"), amount),
    **dict.fromkeys(("images_per_s", "energy_j", "energy_j_per_image", "cost", "cores_busy_at_start"), amount),
    **dict.fromkeys(("flops_per_step", "peak_flops_per_s", "best_step_s", "kernel_step_s"), amount),
    "idle_share": finite,
    "test": EVALUATION,
    "validation": EVALUATION,
    "phases_s": Each(amount),
    "utilisation": {
        **dict.fromkeys(("device", "precision"), text),
        **dict.fromkeys(("mfu", "busy", "sm_active", "tensor_active", "dram_active"), amount),
        "ppp_by_kind": Each(amount),
    },
    "ps": {"replayed": flag},
    "legs": [{"from_step": count}],
}
"""result.json of a run."""
PLACE: dict[str, Kind] = {"time_s": amount, "step": count, "epoch": amount, "kind": text}
"""What each row has."""
MEASUREMENT: dict[str, Kind] = (
    PLACE
    | EVALUATION
    | {
        "lr": finite,
        "images_per_s": amount,
        "phases_s": Each(amount),
        "message": text,
    }
)
"""A row of metrics.jsonl."""
ENVIRONMENT: dict[str, Kind] = {
    **dict.fromkeys(("started", "host", "platform", "python", "cuda"), text),
    "cores": count,
    "memory_bytes": amount,
    "gpus": [text],
    "packages": Each(text),
    "command": [text],
}
"""environment.json."""
TRIAL: dict[str, Kind] = {"status": text, "seconds": amount, "labels": Each(scalar)}
"""trial.json of a study."""


def take(value: Any, kind: Kind, odd: Counter[str], name: str = "") -> Any:
    """The part of `value` that is of the kind, None where nothing is. Other values' names are counted in `odd`."""
    if isinstance(kind, Each):
        kind = dict.fromkeys(value, kind.kind) if isinstance(value, dict) else {}
    if isinstance(kind, dict) and isinstance(value, dict):
        taken = {}
        for key, own in kind.items():
            one = value.get(key)
            if one is None:
                continue
            if isinstance(own, dict | list | Each):
                one = take(one, own, odd, f"{name}.{key}" if name else key)
            elif not own(one):
                odd[f"{name}.{key}" if name else key] += 1
                continue
            if one is not None:
                taken[key] = one
        return taken
    if isinstance(kind, list) and isinstance(value, list):
        return [one for each in value if (one := take(each, kind[0], odd, name)) is not None]
    if callable(kind) and kind(value):
        return value
    odd[name] += 1
    return None


def take_rows(rows: Iterable[Any], kind: dict[str, Kind], odd: Counter[str]) -> tuple[list[dict[str, Any]], int]:
    """The rows that have their place, and the number of those that have not."""
    taken, bad = [], 0
    for row in rows:
        if isinstance(row, dict) and all(own(row.get(key)) for key, own in PLACE.items()):
            taken.append(take(row, kind, odd))
        else:
            bad += 1
    return taken, bad


def left_out(file: str, odd: Counter[str]) -> list[str]:
    """A note on the values of a file that are left out; none where there are none."""
    if not odd:
        return []
    names = [shown_name(name) + (f" ({times:,} times)" if times > 1 else "") for name, times in odd.items()]
    more = ", ..." if len(names) > MOST_NAMED else ""
    return [f"{file}: values that cannot be right are left out: {', '.join(names[:MOST_NAMED])}{more}"]


def read_table(file: Path, parse: Callable[[str], Any], shown: str) -> dict[str, Any]:
    """The table of a JSON or TOML file that messages call `shown`.

    Raises:
        UserError: it cannot be read, holds no table, or tables inside each other without end.
    """
    with reading(shown):
        value = parse(read_text(file))
    if not isinstance(value, dict):
        raise UserError(f"{shown} is damaged: it holds no table")
    if _deep(value):
        raise UserError(f"{shown} is damaged: tables and lists in it lie more than {DEEPEST} deep")
    return value


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        inner = [own.values() if isinstance(own, dict) else own for own in level]
        level = [one for own in inner for one in own if isinstance(one, dict | list)]
    return bool(level)

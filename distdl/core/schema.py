"""Values that are read from a run's files, by name and kind. Reports ignore values of another kind, with a note.

A kind is a predicate, a table of kinds by name, `Each(kind)` for a table with any names, or `[kind]` for a list. None
counts as absent; names that are not listed are ignored.
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
"""Larger than any measurement, and small enough that arithmetic does not overflow a float."""
DEEPEST = 20
"""Largest depth of nested tables and lists. Deeper nesting would overflow the stack of recursive functions."""
MOST_NAMED = 8
"""Largest number of names of invalid values that a note lists."""

FieldKind = Any


@dataclass(frozen=True)
class Each:
    """A table with values of one kind."""

    kind: FieldKind


def number(value: Any) -> float | None:
    """Return the value if it is a finite number, else None."""
    if type(value) in (float, int) and -LARGEST <= value <= LARGEST:  # not bool; not NaN
        return float(value)
    return None


def finite(value: Any) -> bool:
    return number(value) is not None


def measured(value: Any) -> bool:
    """Whether a value is a number, including inf and nan of a diverged training."""
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
RESULT: dict[str, FieldKind] = {
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
ROW: dict[str, FieldKind] = {"time_s": amount, "step": count, "epoch": amount, "kind": text}
"""Fields of every row."""
MEASUREMENT: dict[str, FieldKind] = (
    ROW
    | EVALUATION
    | {
        "lr": finite,
        "images_per_s": amount,
        "phases_s": Each(amount),
        "message": text,
    }
)
"""A row of metrics.jsonl."""
ENVIRONMENT: dict[str, FieldKind] = {
    **dict.fromkeys(("started", "host", "platform", "python", "cuda"), text),
    "cores": count,
    "memory_bytes": amount,
    "gpus": [text],
    "packages": Each(text),
    "command": [text],
}
"""environment.json."""
TRIAL: dict[str, FieldKind] = {"status": text, "seconds": amount, "labels": Each(scalar)}
"""trial.json of a study."""


def take(value: Any, kind: FieldKind, odd: Counter[str], name: str = "") -> Any:
    """Return the part of `value` that is of the kind, or None. Names of invalid values are counted in `odd`."""
    if isinstance(kind, Each):
        kind = dict.fromkeys(value, kind.kind) if isinstance(value, dict) else {}
    if isinstance(kind, dict) and isinstance(value, dict):
        present = {key: field_kind for key, field_kind in kind.items() if value.get(key) is not None}
        fields = {
            key: take(value[key], field_kind, odd, f"{name}.{key}" if name else key)
            for key, field_kind in present.items()
        }
        return {key: field for key, field in fields.items() if field is not None}
    if isinstance(kind, list) and isinstance(value, list):
        return [taken for item in value if (taken := take(item, kind[0], odd, name)) is not None]
    if callable(kind) and kind(value):
        return value
    odd[name] += 1
    return None


def take_rows(rows: Iterable[Any], kind: dict[str, FieldKind], odd: Counter[str]) -> tuple[list[dict[str, Any]], int]:
    """Return the rows with all fields of ROW, and the number of other rows."""
    taken, bad = [], 0
    for row in rows:
        if isinstance(row, dict) and all(is_valid(row.get(key)) for key, is_valid in ROW.items()):
            taken.append(take(row, kind, odd))
        else:
            bad += 1
    return taken, bad


def left_out(file: str, odd: Counter[str]) -> list[str]:
    """Return a note on the invalid values of a file, or an empty list if there are none."""
    if not odd:
        return []
    return [f"{file}: invalid values are ignored: {listed(odd)}"]


def listed(odd: Counter[str]) -> str:
    """Return the first names of invalid values, for a message."""
    names = [shown_name(name) + (f" ({times:,} times)" if times > 1 else "") for name, times in odd.items()]
    return ", ".join(names[:MOST_NAMED]) + ", ..." * (len(names) > MOST_NAMED)


def read_table(file: Path, parse: Callable[[str], Any], title: str) -> dict[str, Any]:
    """Read the table of a JSON or TOML file.

    Args:
        title: name of the file in messages.

    Raises:
        UserError: if the file cannot be read, does not contain a table, or is nested too deeply.
    """
    with reading(title):
        value = parse(read_text(file))
    if not isinstance(value, dict):
        raise UserError(f"{title} is damaged: it is not a table")
    if _deep(value):
        raise UserError(f"{title} is damaged: tables and lists are nested more than {DEEPEST} levels deep")
    return value


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        contents = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for content in contents for item in content if isinstance(item, dict | list)]
    return bool(level)

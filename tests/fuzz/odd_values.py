"""Unexpected values instead of one value of a JSON, JSON lines or TOML file."""

import json
import random
import tomllib
from collections.abc import Iterator
from typing import Any

import tomli_w

TEXTS = ("", "x", "\x1b[31m[/b]", "a\0b", "\ud800", "\uffff", "\u202e", "a\nb", "9" * 5000, "__proto__", "NaN", "train")
NUMBERS = (0, -1, 1, 2**63, 10**400, -(10**400), 0.5, -0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"))
OTHERS = (None, True, False, [], {}, [1], ["x", None], {"a": 1}, [[[[]]]], {"": {"": {"": 10**400}}})
ABSENT = object()
VALUES = (*TEXTS, *NUMBERS, *OTHERS, ABSENT)


def with_odd_value(content: bytes, seed: int) -> bytes:
    """Replace one value of `content`, or its key: the same bytes for the same seed."""
    rng = random.Random(seed)
    text = content.decode()
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        try:
            return json.dumps(_changed(json.loads(text), rng)).encode()
        except json.JSONDecodeError:
            lines = text.splitlines()
            which = rng.randrange(len(lines))
            lines[which] = json.dumps(_changed(json.loads(lines[which]), rng))
            return "".join(f"{line}\n" for line in lines).encode()
    return tomli_w.dumps(_for_toml(_changed(table, rng))).encode()


def _changed(value: Any, rng: random.Random) -> Any:
    places = list(_places(value))
    inner, key = rng.choice(places)
    odd = rng.choice(VALUES)
    if odd is ABSENT:
        del inner[key]
    elif isinstance(odd, str) and isinstance(inner, dict) and rng.random() < 0.3:
        inner[odd] = inner.pop(key)
    else:
        inner[key] = odd
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _for_toml(value: Any) -> Any:
    """Drop values that TOML cannot express."""
    if isinstance(value, dict):
        return {_for_toml(key): _for_toml(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_for_toml(inner) for inner in value if inner is not None]
    return value.replace("\ud800", "?") if isinstance(value, str) else value

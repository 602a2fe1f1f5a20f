"""Kinds of values of a run's files: what is taken, what is counted as invalid."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from distdl.core.errors import UserError
from distdl.core.schema import (
    DEEPEST,
    LARGEST,
    RESULT,
    ROW,
    Each,
    amount,
    count,
    finite,
    left_out,
    listed,
    measured,
    read_table,
    take,
    take_rows,
    text,
)

INFINITY, NAN = float("inf"), float("nan")
KINDS = {
    finite: ([0, -1, 1.5, LARGEST, -LARGEST], [NAN, INFINITY, -INFINITY, 10**101, True, "1", None, [1]]),
    measured: ([0, -1.5, NAN, INFINITY], [10**400, True, "nan", None]),
    amount: ([0, 1.5, LARGEST], [-1, -0.1, NAN, INFINITY, False, "1"]),
    count: ([0, 1, 2**63 - 1], [-1, 2**63, 1.0, True, "1", None]),
    text: (["", "x"], [1, None, ["x"], b"x"]),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_accepts_and_refuses_values(kind: Any) -> None:
    valid, invalid = KINDS[kind]
    assert [value for value in valid if not kind(value)] == []
    assert [value for value in invalid if kind(value)] == []


def test_values_of_another_kind_are_left_out_and_counted_by_name() -> None:
    odd: Counter[str] = Counter()
    kind = {"a": count, "b": {"c": amount}, "d": [text], "e": Each(finite), "f": count}
    value = {"a": "x", "b": {"c": -1, "other": 1}, "d": ["y", 3, "z", None], "e": {"p": 1, "q": "r"}, "f": None, "g": 1}
    assert take(value, kind, odd) == {"b": {}, "d": ["y", "z"], "e": {"p": 1}}
    assert odd == {"a": 1, "b.c": 1, "d": 2, "e.q": 1}
    assert left_out("x.json", odd) == ["x.json: invalid values are ignored: a, b.c, d (2 times), e.q"]
    assert left_out("x.json", Counter()) == []


def test_few_names_are_listed_and_their_text_is_printable() -> None:
    assert listed(Counter(f"n{number}" for number in range(20))).count(",") == 8
    assert listed(Counter(["\x1b[31m", "x" * 10_000])).isprintable()
    assert len(listed(Counter(["x" * 10_000]))) < 300


def test_rows_without_their_fields_are_counted() -> None:
    row = {"time_s": 1.0, "step": 1, "epoch": 0.5, "kind": "train"}
    rows, bad = take_rows([row, row | {"step": -1}, [], None, {}], ROW, Counter())
    assert (rows, bad) == ([row], 4)


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", '{"a":' * 50 + "1" + "}" * 50, "[" * 100_000, "\0", "\x00{}"])
def test_a_file_without_a_table_is_a_one_line_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"^a\.json|a\.json") as error:
        read_table(tmp_path / "a.json", json.loads, "a.json")
    assert "\n" not in str(error.value)


def test_a_table_may_be_nested_up_to_a_limit(tmp_path: Path) -> None:
    for depth, valid in ((DEEPEST, True), (DEEPEST + 1, False)):
        (tmp_path / "a.json").write_text('{"a":' * depth + "1" + "}" * depth)
        if valid:
            assert read_table(tmp_path / "a.json", json.loads, "a.json")
        else:
            with pytest.raises(UserError, match="nested more than 20 levels deep"):
                read_table(tmp_path / "a.json", json.loads, "a.json")


def test_the_result_of_a_run_has_no_open_value() -> None:
    """Each value of result.json that a report or an explanation reads has a kind."""
    assert {"train_s", "phases_s", "utilisation", "flops_per_step", "legs"} <= RESULT.keys()

"""CSV tables: columns, numbers, and messages that name the file, the line and the column."""

from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.core.tables import number, read_csv


def write(folder: Path, text: str) -> Path:
    file = folder / "table.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_rows_have_line_numbers_and_cells_by_name(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, "\n Step,Loss,note\n\n1,2.5,a\n\n2,,b\n"), ("step", "loss"))
    assert table.columns == ["step", "loss", "note"] and [row.line for row in table] == [4, 6]
    first, second = table
    assert first.number("step") == 1 and first.optional_number("loss") == 2.5
    assert second.optional_number("loss") is None and second.optional_number("lr") is None
    assert str(second.error("bad")).endswith("table.csv, line 6: bad")


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "": "table.csv is empty; expected are columns step and loss",
        "step,los\n1,2\n": 'line 1: column loss is missing; did you mean "los"',
        "\n\nstep\n1\n": "line 3: column loss is missing",
        "step,loss\n1\n": "line 2: 1 values under 2 column names",
    }.items(),
)
def test_an_invalid_table_is_a_one_line_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_csv(write(tmp_path, text), ("step", "loss"), expected="expected are columns step and loss")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        ("four", {}, 'line 3: x is "four", not a number'),
        (None, {}, 'line 3: x is "None", not a number'),
        ("nan", {}, "line 3: x is nan; it must be finite"),
        ("inf", {"positive": True}, "line 3: x is inf; it must be finite and positive"),
        ("-1", {"positive": True}, "line 3: x is -1; it must be finite and positive"),
        ("0", {"positive": True}, "line 3: x is 0; it must be finite and positive"),
        ("0.5", {"minimum": 1}, "line 3: x is 0.5; it must be finite and 1 or more"),
    ],
)
def test_an_invalid_number_is_named(value: str | None, limits: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        number(Path("a.csv"), 3, "x", value, **limits)
    assert str(error.value) == f"a.csv, {message}"


def test_limits_are_inclusive() -> None:
    assert number(Path("a.csv"), 3, "x", "1", minimum=1) == 1
    assert number(Path("a.csv"), 3, "x", 5e-324, positive=True) > 0


def test_a_column_with_one_value(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, "mode,x,y\nsync,1,1\nsync,2,1\n"))
    assert table.single_value("mode") == "sync" and table.single_value("model") is None
    with pytest.raises(UserError, match='line 3: x is "2" after "1"'):
        table.single_value("x")

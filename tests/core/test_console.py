"""Foreign text is printed literally in every part of a table."""

import io

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from distdl.core.console import PlainConsole

FOREIGN = {
    "[bold]a[/bold] [/] [link=x]b": "[bold]a[/bold] [/] [link=x]b",
    ":smile: 12": ":smile: 12",
    "a\x1b[31mb\x9d0;t": r"a\x1b[31mb\x9d0;t",
    "x\u202ey": r"x\u202ey",
}


def table(title: str = "", column: str = "", cell: str = "") -> Table:
    result = Table(title=title)
    result.add_column(column, no_wrap=True, min_width=40)
    result.add_row(cell)
    return result


PLACES = {
    "a string": lambda text: text,
    "a text": lambda text: Text(text),
    "a cell": lambda text: table(cell=text),
    "a column": lambda text: table(column=text),
    "a title": lambda text: table(title=text),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_text_is_printed_literally(text: str, place: str) -> None:
    console = PlainConsole(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console.print(PLACES[place](text), style="red")
    assert FOREIGN[text] in console.file.getvalue()
    assert "\x1b" not in console.file.getvalue()


def test_styles_and_a_live_display_work() -> None:
    console = PlainConsole(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(Text("red", "red"))
    assert "\x1b[31mred\x1b[0m" in console.file.getvalue()
    with Progress(TextColumn("{task.description}"), console=console) as progress:
        progress.add_task("pack")
    assert "\x1b[?25l" in console.file.getvalue(), "the cursor is not hidden"


def test_characters_outside_of_the_encoding_are_printed_as_code_points() -> None:
    sink = io.BytesIO()
    console = PlainConsole(file=io.TextIOWrapper(sink, encoding="ascii", write_through=True), width=100)
    console.print("Blüte", table(cell="é"))
    assert b"Bl\\xfcte" in sink.getvalue()


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("columns", [None, "40"])
def test_the_last_column_is_wrapped_in_a_terminal_or_to_columns(
    is_terminal: bool, columns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    console = PlainConsole(file=io.StringIO(), width=40, force_terminal=is_terminal)
    console.print_rows([("a", "word " * 12), ("bcd", "end")])
    lines = console.file.getvalue().splitlines()
    if is_terminal or columns:
        assert lines == [f"a    {'word ' * 6}word", f"     {'word ' * 4}word", "bcd  end"]
    else:
        assert lines == [f"a    {'word ' * 11}word", "bcd  end"]

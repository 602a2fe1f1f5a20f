"""Sections on the terminal: all content is shown within 80 columns, and none is interpreted as markup."""

import io

from distdl.core.console import PlainConsole
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.report.terminal import BLOCKS, show, spark


def output(*parts: Finding | Table | Figure) -> str:
    sink = io.StringIO()
    section = Section(title="What [bold]it[/] shows", text="[red]text[/red]", parts=parts)
    show([section], PlainConsole(file=sink, width=80))
    return sink.getvalue()


def test_findings_have_n_and_a_mark_if_unexpected() -> None:
    text = output(
        Finding(text="fine-tuned reaches 71.9 % (70.8 to 73.0)", n=5, holds=True),
        Finding(text="frozen is worse", n=3, holds=False),
    )
    assert "✓ fine-tuned reaches 71.9 % (70.8 to 73.0)  n = 5" in text
    assert "✗ frozen is worse  n = 3  (not as expected)" in text


def test_markup_is_text() -> None:
    text = output(Table(name="t", title="[b]T[/b]", columns=("[i]c[/i]",), rows=(("[link=x]y[/link]",), ("[/]",))))
    for text_part in ("What [bold]it[/] shows", "[red]text[/red]", "[b]T[/b]", "[i]c[/i]", "[link=x]y[/link]", "[/]"):
        assert text_part in text


def test_a_long_table_ends_with_the_number_of_further_rows() -> None:
    rows = tuple((number, number / 3) for number in range(100))
    text = output(Table(name="t", title="T", columns=("n", "third"), rows=rows, note="a note"))
    assert "... and 60 more rows" in text
    assert "a note" in text
    assert "13" in text and "99" not in text


def test_a_curve_is_a_line_of_blocks_within_80_columns() -> None:
    data = {"x": list(range(90)), "y": [100.0 - x for x in range(90)], "s": ["a name that is rather long" * 3] * 90}
    layer = PlotLayer(mark="line", data=data, series="s")
    figure = Figure(name="f", title="Loss", x=Axis(title="epoch"), y=Axis(title="loss"), layers=(layer,))
    text = output(figure)
    assert "Loss  (loss over epoch)" in text
    assert "100 → 11" in text
    assert max(map(len, text.splitlines())) <= 80


def test_spark_falls_with_its_values() -> None:
    line = spark([float(value) for value in range(1000, 0, -1)])
    assert line[0] == BLOCKS[-1] and line[-1] == BLOCKS[0]
    assert sorted(line, reverse=True) == list(line)
    assert spark([3.0, 3.0]) == BLOCKS[0] * 2


def test_missing_numbers_are_accepted() -> None:
    layer = PlotLayer(mark="line", data={"x": [1, 2, 3], "y": [None, float("nan"), -1.0]})
    figure = Figure(name="f", title="F", x=Axis(title="x"), y=Axis(title="y", scale="log"), layers=(layer,))
    assert "F  (y over x)" in output(
        figure, Table(name="t", title="T", columns=("a",), rows=((None,), (float("nan"),)))
    )

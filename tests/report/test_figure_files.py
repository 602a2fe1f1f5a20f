"""Figures as files: every kind of mark is drawn, and the CSV has all rows."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from distdl.report.content import PlotLayer
from distdl.report.figure_files import figure_csv, png, save, stacked, svg
from figures import CELLS, MARKS, XY, figure


@pytest.mark.parametrize("kind", MARKS)
def test_every_mark_is_drawn_as_svg_and_png(kind: str) -> None:
    x, y, layer, mark = MARKS[kind]
    drawing = svg(figure(layer, x=x, y=y))
    root = ElementTree.fromstring(drawing)
    groups = [
        group for group in root.iter() if mark in group.get("class", "") and "role-mark" in group.get("class", "")
    ]
    shapes = [shape for group in groups for shape in group if shape.get("d") or shape.get("x2") or shape.text]
    assert shapes, f"no {mark}"
    # "NaN" in a path is a mark without a position.
    assert not any("NaN" in (shape.get("d") or "") + (shape.get("transform") or "") for shape in root.iter())
    assert "A title" in drawing and "A caption." in drawing
    picture = np.asarray(Image.open(io.BytesIO(png(drawing))).convert("RGB"))
    assert picture.shape[1] > 1000 and picture.std() > 1


def test_an_empty_figure_is_drawn() -> None:
    layer = PlotLayer(mark="line", data={"x": [], "y": []})
    assert "A title" in svg(figure(layer))


def test_the_csv_has_every_row_unrounded() -> None:
    values = [1 / 3 + i for i in range(5000)]
    layer = PlotLayer(mark="line", data={"x": list(range(5000)), "y": values})
    rows = list(csv.reader(io.StringIO(figure_csv(figure(layer, layer)))))
    assert rows[0] == ["x", "y"] and len(rows) == 5001
    assert [float(row[1]) for row in rows[1:]] == values


def test_the_csv_of_several_layers_has_a_column_of_layers() -> None:
    other = PlotLayer(mark="rule", data={"y": [7.0], "what": ['target, "quoted"']})
    rows = list(
        csv.DictReader(io.StringIO(figure_csv(figure(PlotLayer(mark="line", data={"x": [1], "y": [2]}), other))))
    )
    assert rows == [
        {"layer": "line", "x": "1", "y": "2", "what": ""},
        {"layer": "rule", "x": "", "y": "7.0", "what": 'target, "quoted"'},
    ]


def test_drawings_are_stacked_at_their_size() -> None:
    drawings = svg(figure(PlotLayer(mark="line", data=XY))), svg(figure(PlotLayer(mark="tiles", data=CELLS, value="v")))
    root = ElementTree.fromstring(stacked(*drawings))
    first, second = (element for element in root if element.tag.endswith("svg"))
    heights = [float(element.get("height", 0)) for element in (first, second)]
    assert float(second.get("y", 0)) == heights[0] and float(root.get("height", 0)) == sum(heights)
    assert float(root.get("width", 0)) == max(float(element.get("width", 0)) for element in (first, second))


def test_a_saved_figure_is_downsampled_and_has_a_high_resolution(tmp_path: Path) -> None:
    long = PlotLayer(mark="line", data={"x": list(range(5000)), "y": [float(i % 7) for i in range(5000)]})
    save(figure(long), tmp_path / "f.svg")
    assert "5,000 rows, drawn as minimum and maximum" in (tmp_path / "f.svg").read_text(encoding="utf-8")
    save(figure(long), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as image:
        assert image.width > 1000

"""The figure of a data set: images per class, and samples."""

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from distdl.data.dataset import DataSet, ResidentSplit
from distdl.report import sample_grid
from distdl.report.figure_files import svg

XML = "{http://www.w3.org/2000/svg}"


def dataset(classes: int, *, channels: int = 3, names: tuple[str, ...] = ()) -> DataSet:
    """Two training images and one test image of 8 x 8 pixels per class; each pixel is the number of its class."""
    labels = np.repeat(np.arange(classes), 2)
    images = np.broadcast_to(labels[:, None, None, None], (len(labels), 8, 8, channels)).astype(np.uint8)
    return DataSet(
        name="set",
        classes=names or tuple(f"class {number}" for number in range(classes)),
        train=ResidentSplit(labels=labels, images=images),
        test=ResidentSplit(labels=labels[::2], images=images[::2]),
        channels=channels,
    )


def pictures(drawing: str) -> list[Image.Image]:
    urls = [element.get("href", "") for element in ElementTree.fromstring(drawing).iter(f"{XML}image")]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_row_has_the_images_of_its_class(channels: int) -> None:
    drawing = sample_grid.sample_grid(dataset(5, channels=channels), [0, 3])
    images = pictures(drawing)
    assert [image.mode for image in images] == ["L" if channels == 1 else "RGB"] * 4
    assert [int(np.unique(np.asarray(image))[0]) for image in images] == [0, 0, 3, 3]
    assert {image.size for image in images} == {(96, 96)}  # enlarged, so that pixels stay sharp
    assert re.findall(r">(class \d)<", drawing) == ["class 0", "class 3"]


def test_names_are_escaped() -> None:
    names = ("<b>&\x1b[31m", "x" * 300)
    root = ElementTree.fromstring(sample_grid.sample_grid(dataset(2, names=names), [0, 1]))
    assert [element.text for element in root.iter(f"{XML}text")] == [r"<b>&\x1b[31m", "x" * 21 + "…"]


@pytest.mark.parametrize(("classes", "named"), [(50, True), (51, False)])
def test_bars_have_names_if_they_fit(classes: int, named: bool) -> None:
    figure = sample_grid.class_sizes(dataset(classes))
    assert figure.title == f"set: {3 * classes} images in {classes} classes"
    data = figure.layers[0].data
    assert data["from"] == [0] * classes + [2] * classes and data["to"] == [2] * classes + [3] * classes
    assert set(data["split"]) == {f"train, {2 * classes}", f"test, {classes}"}
    drawing = svg(figure)
    assert (">class 1<" in drawing) == named and ("in the order of names" in drawing) != named
    groups = [
        group for group in ElementTree.fromstring(drawing).iter() if "mark-rect role-mark" in group.get("class", "")
    ]
    assert sum(len(group) for group in groups) == 2 * classes


def test_bars_and_grid_are_in_one_file(tmp_path: Path) -> None:
    sample_grid.draw_dataset(dataset(300), tmp_path / "set.svg")
    root = ElementTree.parse(tmp_path / "set.svg").getroot()
    bars, grid = (element for element in root if element.tag == f"{XML}svg")
    assert float(grid.get("y", "0")) == float(bars.get("height", "0")) > 200
    names = [element.text for element in grid.iter(f"{XML}text")]
    assert len(names) == sample_grid.ROWS and (names[0], names[-1]) == ("class 0", "class 299")

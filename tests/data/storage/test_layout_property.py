"""A property of all folder layouts: a set of known samples, however it is cased, wrapped and littered, is read as
exactly these samples in these splits, or refused. It is never another set."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from distdl.core.errors import UserError
from layouts import make, read, splits

CLASS_NAMES = [
    "cat",
    "dog",
    "bus",
    "train",
    "Test",
    "valid",
    "Ä b",
    "n01440764",
    "test_tube",
    "training",
    "a.png",
]
SPLIT_NAMES = {
    "train": ["train", "Train", "TRAINING", "seg_train", "train_images", "TrainSet", "trains"],
    "validation": ["val", "Valid", "VALIDATION", "seg_val", "val-images", "DevSet", "checks"],
    "test": ["test", "Test", "TESTING", "seg_test", "test_images", "TestSet", "exams"],
}
"""Names of train, validation and test that are used together; the last rows are not names of splits."""
LITTER = [
    "README.md", "LICENSE", "images.tar", "train.tar", "archive.zip", "Thumbs.db", ".DS_Store", "._train", "train.txt",
    "__MACOSX/._x.png", ".cache/1.png", "notes/readme.txt", "empty/", "labels.csv",
]  # fmt: skip
"""Files next to a set that are not images: they may cause a note or make the set invalid, but change no sample."""
RIVALS = ["preview.png", "extra/1.png", "test/1.png", "seg_pred/0.png", "photos/cat/3.png", "a/b/c.png"]
"""Images next to a divided set that are not part of it: omitted with a note, or the set is invalid. (Next to class
folders only the first is not a class.)"""


@dataclass
class Layout:
    """A data set as files, and the expected samples."""

    samples: dict[str, dict[str, str]]
    """Class by path and split. A single split "" is one of class folders alone."""
    litter: list[str]
    rivals: list[str]


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    labels = draw(st.lists(st.sampled_from(CLASS_NAMES), min_size=2, max_size=4, unique=True))
    parts = draw(st.sampled_from([("train", "test"), ("train", "validation"), ("train", "validation", "test"), ("",)]))
    wrapper = draw(st.sampled_from(["", "", "photos/", "archive/dataset/", "train/", "photos/photos/"]))
    doubled = draw(st.booleans()) and parts != ("",)
    if parts == ("",) and "cat" not in labels:
        labels.append("cat")  # folders that all have names of splits are splits
    styles = st.integers(0, 6)
    style, mixed = draw(styles), draw(st.integers(0, 3)) == 0
    if wrapper == "train/" and style == 6:
        wrapper = "photos/"  # what is in train/ is a class, unless its name is that of a split
    samples = {}
    for part in parts:
        name = SPLIT_NAMES[part][draw(styles) if mixed and wrapper != "train/" else style] + "/" if part else ""
        base = wrapper + name + (name if doubled else "")
        samples[part] = {}
        for label in labels:
            nested = draw(st.sampled_from(["", "", "", "day/", "train/"]))
            for number in range(draw(st.integers(2, 3))):
                samples[part][f"{base}{label}/{nested}{part}{number}.png"] = label
    where = st.sampled_from(["", wrapper])
    extra = [
        [draw(where) + path for path in draw(st.lists(st.sampled_from(kind), max_size=2))]
        for kind in (LITTER, RIVALS if parts != ("",) else RIVALS[:1])
    ]
    known = {path for part in samples.values() for path in part}
    return Layout(samples, extra[0], [path for path in extra[1] if path not in known])


def build(folder: Path, layout: Layout) -> bool:
    """Write the files. False if two of them cannot both exist."""
    try:
        make(folder, [path for part in layout.samples.values() for path in part])
        make(folder, [*layout.litter, *layout.rivals])
    except OSError:
        return False
    return True


@settings(
    max_examples=int(os.environ.get("LAYOUT_EXAMPLES", "100")), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(layouts())
def test_a_layout_gives_its_samples_or_an_error(layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "set")
        if not build(folder, layout):
            return
        try:
            dataset = read(folder)
        except UserError as error:
            event("refused")
            assert str(folder) in str(error) and "\n" not in str(error)
            return
        event("read")
        result = {split: set(rows) for split, rows in splits(dataset, folder).items()}
    expected = {split: {f"{label}={path}" for path, label in part.items()} for split, part in layout.samples.items()}
    if "" in expected:
        assert set().union(*result.values()) == expected[""], "the samples are those of the set"
        assert all(result.values()) and sum(map(len, result.values())) == len(expected[""])
    else:
        if "test" not in expected:
            expected["test"] = expected.pop("validation")
        assert result == expected
    if layout.rivals:
        assert dataset.notes, "images that are left out are noted"

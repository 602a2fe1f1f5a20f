"""Folder layouts: each is read as the only data set that it can be, or refused with advice."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.data.dataset import DataSet
from distdl.data.storage import tree
from layouts import make, read, splits

SET = "{train}/cat/1.png {train}/cat/2.png {train}/dog/3.png {test}/cat/4.png {test}/dog/5.png"
"""A divided set with the names of its split folders left open."""
CLASSES = "cat/1.png cat/2.png cat/3.png dog/4.png dog/5.png dog/6.png"


def divided(train: str = "train", test: str = "test", prefix: str = "") -> str:
    return " ".join(f"{prefix}{path}" for path in SET.format(train=train, test=test).split())


# Each row: paths, further paths next to them, classes, and images by split (train, validation, test; "-" for no split).
READ = {
    "split folders": (divided(), "", "cat dog", "3 - 2"),
    "capitals": (divided("Train", "Test"), "", "cat dog", "3 - 2"),
    "all capitals": (divided("TRAIN", "TEST"), "", "cat dog", "3 - 2"),
    "long names": (divided("training", "testing"), "", "cat dog", "3 - 2"),
    "a common prefix": (divided("seg_train", "seg_test"), "", "cat dog", "3 - 2"),
    "a common prefix and a year": (divided("ILSVRC2012_img_train", "ILSVRC2012_img_test"), "", "cat dog", "3 - 2"),
    "years": (divided("train2017", "test2017"), "", "cat dog", "3 - 2"),
    "joined names": (divided("TrainSet", "TestSet"), "", "cat dog", "3 - 2"),
    "compounds": (divided("trainset", "testimages"), "", "cat dog", "3 - 2"),
    "training_images": (divided("training_images", "test-images"), "", "cat dog", "3 - 2"),
    "wrapped splits": (divided("seg_train/seg_train", "seg_test/seg_test"), "", "cat dog", "3 - 2"),
    "validation, valid": (divided(), "valid/cat/6.png", "cat dog", "3 1 2"),
    "Val": (divided(), "Val/dog/6.png", "cat dog", "3 1 2"),
    "val serves as the test": (divided(test="val"), "", "cat dog", "3 - 2"),
    "train alone": ("train/cat/1.png train/cat/2.png train/dog/3.png train/dog/4.png", "", "cat dog", "2 - 2"),
    "one wrapper": (divided(prefix="photos/"), "", "cat dog", "3 - 2"),
    "two wrappers": (divided("Train", "Test", prefix="archive/dataset/"), "", "cat dog", "3 - 2"),
    "wrapped classes": (" ".join(f"photos/photos/{path}" for path in CLASSES.split()), "", "cat dog", "4 - 2"),
    "__MACOSX next to a wrapper": (divided(prefix="photos/"), "__MACOSX/photos/train/cat/._1.png", "cat dog", "3 - 2"),
    "README next to a wrapper": (divided(prefix="photos/"), "README.md LICENSE", "cat dog", "3 - 2"),
    "AppleDouble files": (divided(), "train/cat/._1.png test/dog/._5.png ._train", "cat dog", "3 - 2"),
    "system files": (divided(), "train/Thumbs.db .DS_Store train/cat/desktop.ini .git/x.png", "cat dog", "3 - 2"),
    "a Synology folder": (divided(), "train/cat/@eaDir/1.png", "cat dog", "3 - 2"),
    "a leftover archive": (divided(), "images.tar", "cat dog", "3 - 2"),
    "an archive named train": (divided(), "train.tar", "cat dog", "3 - 2"),
    "an archive in a class": (CLASSES, "cat/cat.tar", "cat dog", "4 - 2"),
    "an archive next to classes": (CLASSES, "images.tar.gz images.zip backup.tar", "cat dog", "4 - 2"),
    "annotations next to splits": (divided(), "annotations/1.xml annotations/2.xml", "cat dog", "3 - 2"),
    "unlabeled images next to splits": (divided("seg_train", "seg_test"), "seg_pred/9.png", "cat dog", "3 - 2"),
    "an empty test folder": ("train/cat/1.png train/cat/2.png", "test/", "cat", "1 - 1"),
    "an empty validation folder": (divided(), "val/", "cat dog", "3 - 2"),
    "a test without class folders": (divided(test="val"), "test/9.png", "cat dog", "3 - 2"),
    "classes": (CLASSES, "", "cat dog", "4 - 2"),
    "a class called train": (
        "bus/1.png bus/2.png car/3.png car/4.png train/5.png train/6.png",
        "",
        "bus car train",
        "3 - 3",
    ),
    "a class called valid": ("valid/1.png valid/2.png invalid/3.png invalid/4.png", "", "invalid valid", "2 - 2"),
    "classes with train in the name": (
        "train_station/1.png train_station/2.png subway/3.png subway/4.png freight-train/5.png freight-train/6.png",
        "",
        "freight-train subway train_station",
        "3 - 3",
    ),
    "nested class folders": ("cat/day/1.png cat/night/2.png dog/3.png dog/4.png", "", "cat dog", "2 - 2"),
    "a class of train alone in test, in parts": (
        "train/cat/1.png train/dog/2.png test/cat/day/3.png test/cat/night/4.png",
        "",
        "cat dog",
        "2 - 2",
    ),
    "nested class folders in train": (
        (
            "train/cat/day/1.png train/cat/night/2.png train/dog/day/3.png train/dog/night/4.png test/dog/5.png "
            "test/cat/6.png"
        ),
        "",
        "cat dog",
        "4 - 2",
    ),
    "loose images": (CLASSES, "7.png", "cat dog", "4 - 2"),
    "an empty class": (CLASSES, "cow/", "cat dog", "4 - 2"),
    "suffixes in capitals": ("cat/1.PNG cat/2.JPeG dog/3.JPG dog/4.png", "", "cat dog", "2 - 2"),
}

REFUSED = {
    "nothing": ("", "no images to train on"),
    "images without classes": ("1.png 2.png", "no images to train on"),
    "train without classes": ("train/1.png test/2.png", "train/ has images but no CLASS folders"),
    "only val": ("val/cat/1.png val/dog/2.png", "no images to train on, only val/"),
    "only test": ("test/cat/1.png test/dog/2.png", "no images to train on, only test/"),
    "only Test, wrapped": ("photos/Test/cat/1.png photos/Test/dog/2.png", "no images to train on, only Test/"),
    "empty train": ("train/cat/ test/cat/1.png", "no images to train on"),
    "train twice": (f"{divided()} Train/cat/1.png", "Train/ and train/, both named for train"),
    "val and valid": (f"{divided()} val/cat/6.png valid/cat/7.png", "both named for validation"),
    "a class or a split": (
        "bus/1.png car/2.png train/diesel/3.png train/steam/4.png",
        "can be read in two ways: train/ as a split, or as a class next to bus/, car/; rename it",
    ),
    "a class or a test": ("bus/1.png car/2.png test/3.png", "can be read in two ways: test/"),
    "classes named like splits, nested like splits": (
        "train/day/1.png train/day/2.png Test/day/3.png Test/day/4.png cat/5.png",
        "can be read in two ways: Test/, train/ as a split, or as a class next to cat/",
    ),
    "unnamed splits next to a class": (
        "photos/trains/cat/1.png photos/trains/dog/2.png photos/exams/cat/3.png photos/exams/dog/4.png extra/5.png",
        r"photos can be read in two ways: exams/, trains/ as classes, or as splits of classes cat/, dog/",
    ),
    "a split of other classes": ("bus/1.png train/diesel/3.png val/steam/4.png", "can be read in two ways"),
    "a split of another name": (f"{divided()} exam/cat/9.png", "has exam/ with the classes of train/"),
    "one prefix of two": (divided("train", "seg_test"), "has seg_test/ with the classes of train/"),
    "masks next to splits": (f"{divided()} masks/cat/1.png masks/dog/3.png", "has masks/ with the classes of train/"),
    "splits of other names": (
        "day/cat/1.png day/dog/2.png night/cat/3.png night/dog/4.png",
        "day/, night/ as classes, or",
    ),
    "two sets": (
        f"{divided(prefix='one/')} {divided(prefix='two/')}",
        "one is divided into test/, train/.*use the path of the data set",
    ),
    "a set next to images": (f"{divided(prefix='photos/')} preview/1.png", "photos is divided into"),
    "splits inside classes": ("cat/train/1.png cat/test/2.png dog/train/3.png dog/test/4.png", "cat is divided into"),
    "a class or a set": ("photos/1.png photos/cat/2.png photos/dog/3.png", "as one class.*or as a data set"),
    "shards next to images": (f"{divided()} train-00000.tar", "as shards .train-00000.tar. and as folders"),
    "records next to images": (f"{divided()} train-00000.rec", "as shards .train-00000.rec. and as folders"),
    "nested shards next to images": (f"{CLASSES} x/y/0-0.TAR", "as shards .0-0.TAR. and as folders"),
    "a test as an archive": (
        "train/cat/1.png train/cat/2.png test.tar",
        "test.tar is named for a split that the folders next to it do not have",
    ),
    "a validation as an archive": (f"{CLASSES} val_images.tar.zst", "val_images.tar.zst is named for a split"),
    "a class only in test": (f"{divided()} test/cow/9.png", "class cow is in test but not in train"),
    "one image per class": ("cat/1.png dog/2.png", "leaves none for the test"),
}


@pytest.mark.parametrize("layout", READ)
def test_a_valid_layout_gives_its_splits_and_classes(layout: str, tmp_path: Path) -> None:
    paths, extra, classes, counts = READ[layout]
    folder = make(tmp_path / "set", f"{paths} {extra}")
    dataset = read(folder)
    assert dataset.classes == tuple(classes.split())
    result = splits(dataset, folder)
    assert [
        str(len(result[split])) if split in result else "-" for split in ("train", "validation", "test")
    ] == counts.split()
    samples = [sample for rows in result.values() for sample in rows]
    # Each sample once, its class a folder of its path, and no other file except a validation.
    assert len(samples) == len(set(samples))
    assert {sample.partition("=")[2] for sample in samples} >= set(paths.split())
    assert all(f"/{label}/" in f"/{path}" for label, _, path in (sample.partition("=") for sample in samples))
    if "train" in counts and "test" in paths.lower():
        assert all("test" in path.lower() for path in result["test"])
    other_files = set(extra.split()) - {"valid/cat/6.png", "Val/dog/6.png", "LICENSE", "README.md", "val/", "test/"}
    if other_files:
        assert dataset.notes, "omitted files are noted"


@pytest.mark.parametrize("layout", REFUSED)
def test_an_invalid_or_ambiguous_layout_is_refused(layout: str, tmp_path: Path) -> None:
    paths, message = REFUSED[layout]
    folder = make(tmp_path / "set", paths)
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run as an unprivileged user: in containers tests run as root, who may read every file."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder that every user can enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.mark.parametrize("closed", ["", "train", "train/cat", "test/dog"])
def test_a_folder_without_read_permission_is_named(closed: str, public: Path) -> None:
    folder = make(public / "set", divided())
    (folder / closed).chmod(0)
    try:
        with without_privileges(), pytest.raises(UserError, match="cannot be read: Permission denied") as error:
            read(folder)
    finally:
        (folder / closed).chmod(0o755)
    assert f"folder {folder / closed} " in str(error.value)


def linked(folder: Path, paths: str, **links: str) -> Path:
    """A tree with links: their names, with "_" as "/", and their targets."""
    make(folder, paths)
    for name, target in links.items():
        (folder / name.replace("_", "/")).symlink_to(target)
    return folder


def notes(dataset: DataSet) -> str:
    return "\n".join(dataset.notes)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "a/1.png a/b/2.png 3.png")
    folder = linked(
        tmp_path / "set",
        "train/cat/1.png train/dog/2.png test/dog/3.png",
        train_cat_more="../../../elsewhere/a",
        test_cat="../../elsewhere/a",
        train_dog_9="2.png",
    )
    (folder / "train/dog/4.png").symlink_to(tmp_path / "elsewhere/3.png")
    dataset = read(folder)
    assert splits(dataset, folder) == {
        "train": [
            "cat=train/cat/1.png",
            "cat=train/cat/more/1.png",
            "cat=train/cat/more/b/2.png",
            "dog=train/dog/2.png",
            "dog=train/dog/4.png",
        ],
        "test": ["cat=test/cat/1.png", "cat=test/cat/b/2.png", "dog=test/dog/3.png"],
    }
    assert f"3 links to a place outside of {folder} in {folder} (test/cat, ...): followed" in notes(dataset)
    assert "2 images of test are in train too" in notes(dataset)  # the same files, by another name


def test_a_test_that_is_a_link_to_train_is_noted(tmp_path: Path) -> None:
    folder = linked(tmp_path / "set", "train/cat/1.png train/dog/2.png", test="train")
    assert "2 images of test are in train too" in notes(read(folder))


def test_circular_links_are_not_followed(tmp_path: Path) -> None:
    folder = linked(tmp_path / "set", divided(), train_cat_back="..", train_dog_up="../../../set", test_cat_here=".")
    dataset = read(folder)
    assert (len(dataset.train), len(dataset.test)) == (3, 2)
    assert "3 links to a folder that contains them" in notes(dataset)


def test_exponentially_many_link_paths_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", divided())
    for depth in range(20):  # 2^20 paths
        make(folder, f"train/cat/{depth}/x.png")
        for name in "ab":
            (folder / f"train/cat/{depth}/{name}").symlink_to(f"../{depth + 1}")
    make(folder, "train/cat/20/x.png")
    with pytest.raises(UserError, match="is reached by more than 100 links"):
        read(folder)


def test_a_class_that_is_a_broken_link_is_refused(tmp_path: Path) -> None:
    for target in ("gone", "cow"):
        folder = linked(tmp_path / target, divided(), train_cow=target)
        with pytest.raises(UserError, match=f"{folder}/train/cow is a broken link"):
            read(folder)
    with pytest.raises(UserError, match="no such folder"):
        read(linked(tmp_path / "x", "", loop="loop") / "loop")


def test_an_image_that_is_a_broken_link_is_an_unreadable_sample(tmp_path: Path) -> None:
    folder = linked(tmp_path / "set", divided())
    (folder / "train/cat/9.png").symlink_to("gone.png")
    (folder / "train/cat/loop.png").symlink_to("loop.png")
    assert len(read(folder).train) == 5


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # its address may have 107 characters


@pytest.mark.parametrize("special", [fifo, device, unix_socket])
def test_special_files_are_omitted_without_opening_them(special: Callable[[Path], None], tmp_path: Path) -> None:
    folder = make(tmp_path / "set", divided())
    special(folder / "train/cat/9.png")
    dataset = read(folder)
    assert len(dataset.train) == 3
    assert f"1 special file (pipe, socket or device) named like an image in {folder} (train/cat/9.png)" in notes(
        dataset
    )


def test_a_tree_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", [f"cat/{'x/' * 100}1.png"])
    with pytest.raises(UserError, match="is too deep"):
        read(folder)


def test_the_search_for_images_opens_no_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", divided())
    for file in folder.rglob("*.png"):
        file.unlink()
        os.mkfifo(file)
    assert len(tree.walk(folder).special) == 5

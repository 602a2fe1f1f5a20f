"""Split lists: accepted and refused formats, and when the folders are used instead."""

from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.data.storage.split_names import SYNONYMS, split_of, split_of_list, splits_of
from layouts import make, read, splits

IMAGES = "images/ant/1.jpg images/ant/2.jpg images/bee/3.jpg images/bee/4.jpg"
TRAIN, TEST = b"ant/1.jpg\nbee/3.jpg\n", b"ant/2.jpg\nbee/4.jpg\n"
WHOLE = {
    "train": ["ant=images/ant/1.jpg", "bee=images/bee/3.jpg"],
    "test": ["ant=images/ant/2.jpg", "bee=images/bee/4.jpg"],
}


def listed(folder: Path, train: bytes, test: bytes = TEST, images: str = IMAGES, **others: bytes) -> Path:
    make(folder, images)
    for name, content in {"train": train, "test": test, **others}.items():
        (folder / f"{name}.txt").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "train",
    [
        TRAIN,
        b"\xef\xbb\xbf" + TRAIN,
        TRAIN.replace(b"\n", b"\r\n"),
        TRAIN.replace(b"\n", b"\r"),
        TRAIN.strip(),
        TRAIN.replace(b"/", b"\\"),
        b"\n  ant/1.jpg \t\n\n\nbee/3.jpg",
        b"./ant/1.jpg\n./bee//3.jpg",
        b"images/ant/1.jpg\nimages/bee/3.jpg",
        b"images\\ant\\1.jpg\r\nimages\\bee\\3.jpg\r\n",
        TRAIN + b"bee/.DS_Store\n._1.jpg\n",
    ],
)
def test_accepted_lists(train: bytes, tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", train)
    assert splits(read(folder), folder) == WHOLE


def test_a_repeated_line_counts_once_and_is_noted(tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", TRAIN + b"./ant/1.jpg\nbee/3.jpg\n")
    dataset = read(folder)
    assert splits(dataset, folder) == WHOLE
    assert "2 repeated lines of train.txt count once" in dataset.notes


@pytest.mark.parametrize("name", ["a\u2028b", "a\x0bb\x0cc", "a\x85b\x1cc", "é", "e\u0301", "a b", "日本", "\udce9"])
def test_names_may_contain_any_character_except_a_newline(name: str, tmp_path: Path) -> None:
    path = f"ant/{name}.jpg"
    folder = listed(tmp_path / "set", TRAIN + path.encode("utf-8", "surrogateescape"), images=IMAGES)
    make(folder, [f"images/{path}"])
    assert f"ant=images/{path}" in splits(read(folder), folder)["train"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (b"", "train.txt names no images: there are no images to train on"),
        (b"\n \n", "train.txt names no images"),
        (TRAIN.decode().encode("utf-16"), "train.txt is not UTF-8 text .byte 0xff at 0., perhaps UTF-16"),
        (TRAIN.decode().encode("utf-16-be"), "train.txt is not UTF-8 text .byte 0x00 at 0., perhaps UTF-16"),
        ("ant/é.jpg".encode("latin-1"), "train.txt, line 1 is not UTF-8 .byte 0xe9. and names no file"),
        (b"ant/1.jpg 0\nbee/3.jpg 1", "train.txt, line 1 has more than a file name .ant/1.jpg 0."),
        (b"ant/1.jpg,0\nbee/3.jpg,1", "train.txt, line 1 has more than a file name"),
        (b'"ant/1.jpg";0\n', "train.txt, line 1 has more than a file name"),
        (b"path,label\nant/1.jpg,0", 'train.txt, line 1: "path,label" is not of the form CLASS/FILE'),
        (TRAIN + b"ant/9.jpg", "train.txt, line 3, names ant/9.jpg, which is not in"),
        (b"/etc/passwd", "line 1.*is not of the form CLASS/FILE"),
        (b"C:\\images\\ant\\1.jpg", "line 1.*is not of the form CLASS/FILE"),
        (b"ant/../../images/ant/1.jpg", "line 1.*is not of the form CLASS/FILE"),
        (b"ant\\..\\ant\\1.jpg", "line 1.*is not of the form CLASS/FILE"),
        (b"1.jpg", "line 1.*is not of the form CLASS/FILE"),
        (b"ant/", "line 1.*is not of the form CLASS/FILE"),
        (b"images/ant", "which is not in"),
        (b"x/" * 3000 + b"1.jpg", "which is not in"),
        (b"ant/" + b"x" * 5000, "which is not in"),
    ],
)
def test_refused_lists(train: bytes, message: str, tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", train)
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert str(folder) in str(error.value) and len(str(error.value)) < 1000


def test_an_empty_test_list_is_refused(tmp_path: Path) -> None:
    for part in ("test", "val"):
        folder = listed(tmp_path / part, TRAIN, **{part: b"\n"})
        with pytest.raises(UserError, match=f"{part}.txt names no images"):
            read(folder)


def test_a_test_list_alone_is_refused(tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", TRAIN)
    (folder / "train.txt").unlink()
    with pytest.raises(UserError, match=r"has test\.txt but no train\.txt"):
        read(folder)


def test_list_names_in_capitals(tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", TRAIN)
    (folder / "train.txt").rename(folder / "Train.TXT")
    (folder / "test.txt").rename(folder / "Testing.txt")
    assert splits(read(folder), folder) == WHOLE
    (folder / "train.txt").write_bytes(TRAIN)
    with pytest.raises(UserError, match=r"Train\.TXT and train\.txt, both named for train"):
        read(folder)


def test_a_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    folder = make(listed(tmp_path / "set", TRAIN), "small/ant/1.jpg")
    with pytest.raises(UserError, match=r"ant/1\.jpg, which is in images/ and in small/"):
        read(folder)


DIVIDED = "train/ant/1.jpg train/bee/3.jpg test/ant/2.jpg test/bee/4.jpg"
FOLDERS = {split: [row.replace("images", split) for row in rows] for split, rows in WHOLE.items()}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (b"How these images were trained on.\nSee http://a.org/b and/or c.\n", b"Notes on testing."),
        (b"", b""),
        (b"3 1 2\n", b"2"),
        (TRAIN, TEST),  # the same division
    ],
)
def test_lists_that_agree_with_split_folders_are_ignored(train: bytes, test: bytes, tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", train, test, images=DIVIDED)
    dataset = read(folder)
    assert splits(dataset, folder) == FOLDERS
    assert train == TRAIN or any("names no file" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (b"train/ant/1.jpg\n", "two ways: train 1, test 2 by .*, train 2, test 2 by its folders"),
        (b"ant/1.jpg 0\nbee/3.jpg 1\n", "has more than a file name"),
        (b"ant/1.jpg\nbee/33.jpg\n", "line 2, names bee/33.jpg, which is not in"),
    ],
)
def test_lists_that_contradict_split_folders_are_refused(train: bytes, message: str, tmp_path: Path) -> None:
    folder = listed(tmp_path / "set", train, images=DIVIDED)
    with pytest.raises(UserError, match=message):
        read(folder)


NESTED = {  # paths in train.txt and test.txt, and the classes or the error
    "views of each class": ("cat/front/1.png dog/side/2.png", "cat/side/3.png dog/side/4.png", "cat dog"),
    "views in a wrapper": ("x/cat/front/1.png x/dog/side/2.png", "x/cat/side/3.png x/dog/4.png", "cat dog"),
    "one class with views": ("cat/front/1.png dog/2.png", "cat/side/3.png dog/4.png", "cat dog"),
    "split folders": ("train/cat/a/1.png train/dog/2.png", "test/cat/a/3.png test/cat/b/4.png", "cat dog"),
    "classes named like splits": ("cat/train/1.png dog/2.png", "cat/test/3.png dog/4.png", "cat dog"),
    "a class called train": ("bus/1.png train/2.png", "bus/3.png train/4.png", "bus train"),
    "folders of one kind": ("day/cat/1.png day/dog/2.png", "night/cat/3.png night/dog/4.png", "two ways: day/, night/"),
    "all views of all classes": (
        "cat/front/1.png cat/side/2.png",
        "dog/front/3.png dog/side/4.png",
        "two ways: cat/, dog/ as classes",
    ),
    "all views, in split folders": (
        "train/cat/front/1.png train/cat/side/2.png train/dog/front/3.png train/dog/side/4.png",
        "test/cat/front/5.png test/dog/front/6.png",
        "cat dog",
    ),
    "a class called test": ("bus/1.png test/2.png", "bus/3.png test/4.png", "bus test"),
    "a folder next to train/": ("train/cat/1.png train/dog/2.png", "more/cat/3.png more/dog/4.png", "has more/ with"),
    "images next to classes": (
        "x/1.png x/cat/2.png x/dog/3.png",
        "x/cat/4.png",
        "names x/1.png, which is not in a class folder",
    ),
    "no classes": ("train/1.png", "test/2.png", "set: class test is in test but not in train"),
}


@pytest.mark.parametrize("case", NESTED)
def test_the_class_of_a_listed_file_is_its_folder(case: str, tmp_path: Path) -> None:
    train, test, expected = NESTED[case]
    folder = listed(tmp_path / "set", "\n".join(train.split()).encode(), "\n".join(test.split()).encode(), images="")
    make(folder, f"{train} {test}")
    if expected.islower() and ":" not in expected and "/" not in expected:
        dataset = read(folder)
        assert dataset.classes == tuple(expected.split())
        samples = [sample for rows in splits(dataset, folder).values() for sample in rows]
        assert all(f"/{label}/" in f"/{path}" for label, _, path in (sample.partition("=") for sample in samples))
    else:
        with pytest.raises(UserError, match=expected) as error:
            read(folder)
        assert str(folder) in str(error.value)


@pytest.mark.parametrize("split", SYNONYMS)
def test_folders_lists_and_shards_use_the_same_split_names(split: str) -> None:
    for word in sorted(SYNONYMS[split]):
        for name in (word, word.upper(), f"{word}set", f"{word}_images", f"{word.capitalize()}Data", f"{word}2017"):
            assert split_of(name) == (split, ()), name
            assert splits_of(f"my/{name}/x-00000.tar") == splits_of(f"my_{name}-00000.rec") == [split]
            assert split_of_list(f"{name}.txt") == split_of_list(f"{name}_list.TXT") == split
    for name in ("contest", "interval", "latest", "trainer", "devil", "validity"):
        assert split_of(name) is None and split_of_list(f"{name}.txt") is None and splits_of(name) == []
    assert split_of("train_val") is None and splits_of("train_val") == ["train", "validation"]


@pytest.mark.parametrize("names", ["trainset testset", "train_list test_list", "Training-Files TestingFiles"])
def test_accepted_names_of_lists(names: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "set", IMAGES)
    for name, content in zip(names.split(), (TRAIN, TEST), strict=True):
        (folder / f"{name}.txt").write_bytes(content)
    assert splits(read(folder), folder) == WHOLE


def test_lists_in_a_wrapper_folder(tmp_path: Path) -> None:
    listed(tmp_path / "set" / "archive", TRAIN)
    assert splits(read(tmp_path / "set"), tmp_path / "set" / "archive") == WHOLE

"""Image folders of every layout, and their errors."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load


def picture(path: Path, color: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (color, 0, 0)).save(path)


def tree(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        picture(folder / name, number)
    return folder


def loaded(folder: Path, **settings: object) -> DataSet:
    return load(DataConfig(name=str(folder), normalize="none", **settings))


def names_of(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_split_folders(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "train/b/1.png", "train/a/2.jpg", "train/a/1.png", "val/a/3.png", "test/b/4.JPEG")
    dataset = loaded(folder)
    assert dataset.classes == ("a", "b")
    assert names_of(dataset.train.files, folder) == ["train/a/1.png", "train/a/2.jpg", "train/b/1.png"]
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert names_of(dataset.validation.files, folder) == ["val/a/3.png"]
    assert names_of(dataset.test.files, folder) == ["test/b/4.JPEG"]
    assert dataset.test.labels.tolist() == [1]


def test_val_serves_as_the_test_split_if_there_is_none(tmp_path: Path) -> None:
    dataset = loaded(tree(tmp_path / "set", "train/a/1.png", "val/a/2.png"))
    assert dataset.validation is None and len(dataset.test) == 1
    assert "val is used as the test split" in " ".join(dataset.notes)


def test_split_lists_without_the_background_class(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "101/ant/1.jpg", "101/bee/2.jpg", "101/BACKGROUND_Google/3.jpg", "101/ant/4.jpg")
    (folder / "train.txt").write_text("ant/1.jpg\nBACKGROUND_Google/3.jpg\nbee/2.jpg\n")
    (folder / "test.txt").write_text("ant/4.jpg\n\n")
    dataset = loaded(folder)
    assert dataset.classes == ("ant", "bee")
    assert names_of(dataset.train.files, folder) == ["101/ant/1.jpg", "101/bee/2.jpg"]
    assert dataset.test.labels.tolist() == [0]
    assert "BACKGROUND is not a class" in " ".join(dataset.notes)


def test_class_folders_are_divided_by_the_seed(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", *(f"{name}/{number}.png" for name in "ab" for number in range(10)))
    dataset = loaded(folder)
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    assert not set(dataset.train.files) & set(dataset.test.files)
    assert loaded(folder).test.files == dataset.test.files
    assert loaded(folder, split_seed=1).test.files != dataset.test.files


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_of_a_folder_is_unpacked_into_the_cache(suffix: str, tmp_path: Path, own_cache: Path) -> None:
    folder = tree(tmp_path / "set", "train/a/1.png", "test/a/2.png")
    archive = tmp_path / f"packed.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for file in folder.rglob("*.png"):
                packed.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, "set")
    for _ in range(2):
        dataset = loaded(archive)
        assert (len(dataset.train), len(dataset.test)) == (1, 1)
        assert own_cache in dataset.train.files[0].parents


def test_an_archive_in_the_root_is_found_by_the_sets_name(tmp_path: Path, data_root: Path) -> None:
    with tarfile.open(tmp_path / "flower_photos.tgz", "w:gz", compresslevel=1) as packed:
        packed.add(data_root / "flower_photos", "flower_photos")
    dataset = load(DataConfig(name="flowers", root=tmp_path, normalize="none"))
    assert (len(dataset.train), len(dataset.test)) == (175, 75)


@pytest.mark.parametrize("member", ["../outside.png", "/outside.png"])
def test_an_archive_with_a_path_outside_its_folder_is_refused(member: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    for archive in (tmp_path / "a.zip", tmp_path / "a.tar"):
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive, "w") as packed:
                packed.write(tmp_path / "1.png", "set/a/1.png")
                packed.writestr(member, b"x")
        else:
            with tarfile.open(archive, "w") as packed:
                info = packed.gettarinfo(tmp_path / "1.png")
                info.name = member if member.startswith("..") else "set/link"
                info.type = tarfile.REGTYPE if member.startswith("..") else tarfile.SYMTYPE
                info.linkname, info.size = "/etc/passwd", 0
                packed.addfile(info)
        with pytest.raises(UserError, match=f"{archive}.*(outside|absolute)"):
            loaded(archive)
    assert not (tmp_path.parent / "outside.png").exists()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(UserError, match=f"{name} cannot be unpacked"):
            loaded(tmp_path / name)


def test_omniglot_is_unpacked_next_to_its_archives(tmp_path: Path, data_root: Path) -> None:
    folder = tmp_path / "omniglot-py"
    folder.mkdir()
    for name in ("images_background_small1", "images_background_small2"):
        with zipfile.ZipFile(data_root / "omniglot-py" / f"{name}.zip") as complete:
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as some:
                for member in complete.namelist():
                    if "/Greek/character0" in member or "/Tagalog/character0" in member:
                        some.writestr(member, complete.read(member))
    dataset = load(DataConfig(name="omniglot", root=tmp_path, normalize="none"))
    assert (folder / "images_background_small1" / "Greek").is_dir()
    assert len(dataset.classes) == 18 and dataset.classes[0] == "Greek/character01"
    # Greek is in both archives, and counts once.
    assert (len(dataset.train), len(dataset.test)) == (18 * 15, 18 * 5)
    assert all(int(file.stem[-2:]) <= 15 for file in dataset.train.files)
    assert dataset.channels == 1


def test_omniglot_omits_files_that_are_not_drawings(tmp_path: Path) -> None:
    part = tmp_path / "omniglot" / "images_background"
    for drawer in (1, 15, 16, 20):
        picture(part / "Greek" / "character01" / f"0709_{drawer:02}.png", drawer)
    strays = ["0709_01 (1).png", "0709_21.png", "copy.png", "0709_1.png", "more/0709_02.png", "../0709_03.png"]
    for name in (*strays, "._0709_02.png"):
        picture(part / "Greek" / "character01" / name)
    dataset = load(DataConfig(name="omniglot", root=tmp_path, normalize="none"))
    assert dataset.classes == ("Greek/character01",) and (len(dataset.train), len(dataset.test)) == (2, 2)
    notes = " ".join(dataset.notes)
    assert f"{len(strays)} images of {part} are left out" in notes and "1 hidden or system entry" in notes


def test_empty_class_folders_are_omitted_with_a_note(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "train/a/1.png", "test/a/2.png")
    (folder / "train" / "nothing").mkdir()
    (folder / "test" / "nothing").mkdir()
    dataset = loaded(folder)
    assert dataset.classes == ("a",)
    assert sum("nothing has no images" in note for note in dataset.notes) == 2


def test_files_that_are_not_images_are_omitted_with_a_note(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "train/a/1.png", "test/a/2.png")
    (folder / "train/a/Thumbs.db").write_text("")
    (folder / "train/a/.hidden").write_text("")
    dataset = loaded(folder)
    assert len(dataset.train) == 1
    assert any("left out" in note and note.endswith("Thumbs.db") for note in dataset.notes)


@pytest.mark.parametrize(
    ("names", "lists", "message"),
    [
        ((), {}, "no images to train on"),
        (("train/a/1.png", "test/b/1.png"), {}, "class b is in test but not in train"),
        (
            ("x/a/1.png",),
            {"train": "a/1.png\na/9.png", "test": "a/1.png"},
            "names a/9.png, which is not in",
        ),
        (("x/a/1.png",), {"train": "1.png", "test": "a/1.png"}, "not of the form CLASS/FILE"),
        (("x/a/1.png",), {"train": "../a/1.png", "test": "a/1.png"}, "not of the form CLASS/FILE"),
        (("x/a/1.png",), {"train": "", "test": "a/1.png"}, "no images to train on"),
    ],
)
def test_an_invalid_folder_is_refused(
    names: tuple[str, ...], lists: dict[str, str], message: str, tmp_path: Path
) -> None:
    folder = tree(tmp_path / "set", *names)
    folder.mkdir(exist_ok=True)
    for part, lines in lists.items():
        (folder / f"{part}.txt").write_text(lines)
    with pytest.raises(UserError, match=message):
        loaded(folder)


def test_an_image_in_train_and_test_is_noted(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "x/a/1.png", "x/a/2.png")
    (folder / "train.txt").write_text("a/1.png\na/2.png")
    (folder / "test.txt").write_text("a/1.png")
    assert any("1 images of test are in train too" in note for note in loaded(folder).notes)


def test_a_split_without_samples_is_refused(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "train/a/1.png", "test/a/2.png")
    with pytest.raises(UserError, match=r"validation 0\.5 leaves"):
        loaded(folder, validation=0.5)

"""`data pack` and `data export`: folders with other content, sources that change, and names and files of any kind."""

import io
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from distdl.cli import data_export, data_pack
from distdl.cli.__main__ import main
from distdl.core.config import DataConfig
from distdl.core.errors import Failure, UserError
from distdl.data.dataset import DataSet, ResidentSplit
from distdl.data.sets.load import load
from distdl.data.storage.export import export
from distdl.data.storage.folders import UNFINISHED
from distdl.data.storage.image_header import FORMATS
from distdl.data.storage.pack import SUFFIX_OF, pack
from distdl.data.storage.tree import SUFFIXES
from shard_files import samples, write_tar

Content = dict[str, bytes]
Write = Callable[[str, Path], None]
WRITERS: dict[str, Write] = {
    "jpeg": lambda name, out: data_export.export(name, out=out, format="jpeg"),
    "folder": lambda name, out: data_export.export(name, out=out, format="folder"),
    "shards": lambda name, out: data_pack.pack(name, out=out, format="shards"),
    "records": lambda name, out: data_pack.pack(name, out=out, format="records"),
}
each_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def image(number: int, format: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 40 % 256, number % 256, 0)).save(sink, format)
    return sink.getvalue()


def tree(folder: Path, first: int = 0, labels: tuple[str, ...] = ("cat", "dog"), format: str = "PNG") -> str:
    """Write a set with five images per class."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(5):
            (folder / label / f"{number}.jpg").write_bytes(image(first + number, format))
    return str(folder)


def content(folder: Path) -> Content:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def counts(dataset: DataSet) -> dict[str, Counter[str]]:
    """Images by part and class."""
    return {
        part: Counter(dataset.classes[label] for label in split.labels.tolist())
        for part, split in (("train", dataset.train), ("test", dataset.test))
    }


def refused(action: Callable[[], object], *expected: str) -> None:
    with pytest.raises(UserError) as error:
        action()
    assert all(text in str(error.value) for text in expected) and "\n" not in str(error.value)


def silent(_: object) -> None:
    """Ignore progress and unreadable images."""


def stop_after(count: int) -> Callable[[int], None]:
    """Return a progress callback that interrupts."""
    calls: list[int] = []

    def progress(value: int) -> None:
        calls.append(value)
        if len(calls) >= count:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("format", ["jpeg", "folder"])
def test_an_export_refuses_the_folder_of_another_set(format: str, tmp_path: Path) -> None:
    first, second = tree(tmp_path / "one"), tree(tmp_path / "other", 100)
    WRITERS[format](first, tmp_path / "out")
    previous = content(tmp_path / "out")
    refused(lambda: WRITERS[format](second, tmp_path / "out"), "out has the export of another data set")
    refused(
        lambda: data_export.export(first, out=tmp_path / "out", format="jpeg", size=8),
        "out has the export of this data set with another --format or --size",
    )
    assert content(tmp_path / "out") == previous
    (tmp_path / "one" / "cat" / "3.jpg").write_bytes(image(200))
    refused(lambda: WRITERS[format](first, tmp_path / "out"), "before its files changed")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / UNFINISHED).touch()  # from an earlier version, of an unknown set
    refused(lambda: WRITERS[format](first, tmp_path / "earlier"), "earlier has the export of another data set")


@each_writer
def test_nothing_is_written_into_the_source(write: Write, tmp_path: Path) -> None:
    folder = tree(tmp_path / "one")
    tree(tmp_path / "elsewhere", labels=("kept",))
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "one" / "bird").symlink_to(tmp_path / "elsewhere")
    previous = content(tmp_path)
    for place in ("one", "one/cat", "one/new", "one/cat/new", "link", "link/new", "elsewhere/new"):
        refused(lambda place=place: write(folder, tmp_path / place), "is inside of the data set")
    assert {name: now for name, now in content(tmp_path).items() if not name.startswith("cache")} == previous


@each_writer
def test_folders_with_other_content_are_refused(write: Write, tmp_path: Path) -> None:
    folder = tree(tmp_path / "one")
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").touch()
    for place, problem in {
        "file": "is not a folder",
        "dangling": "is a broken link",
        "foreign": "is not empty, it has notes.txt",
        ".": "is not empty",
        "file/in": "cannot be",
    }.items():
        refused(lambda place=place: write(folder, tmp_path / place), problem)
    (tmp_path / "empty").mkdir()
    (tmp_path / "alias").symlink_to("empty")
    write(folder, tmp_path / "alias")
    assert counts(load(DataConfig(name=str(tmp_path / "empty")))) == counts(load(DataConfig(name=folder)))


def versions(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of each file: another one if it was written again, even if it is the same."""
    return {str(file): (file.stat().st_ino, file.stat().st_ctime_ns) for file in folder.rglob("*")}


FORMATS_OF = {"jpeg": "export", "folder": "export", "shards": "pack", "records": "pack"}


@pytest.mark.parametrize(("format", "verb"), FORMATS_OF.items())
class TestFinished:
    """A second call for an output that is complete."""

    def call(self, verb: str, *argv: str) -> int:
        return main(["data", verb, "one", "--out", "out", *argv])

    def test_it_is_verified_and_not_written(
        self,
        format: str,
        verb: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        tree(tmp_path / "one", labels=("cat", "d\\n o g"))
        assert self.call(verb, "--format", format) == 0
        previous, output = versions(tmp_path / "out"), capsys.readouterr().out
        assert "complete" not in output
        assert self.call(verb, "--format", format) == 0
        assert versions(tmp_path / "out") == previous
        output = capsys.readouterr().out
        assert "out is already complete, nothing was written: 10 images" in output

    def test_another_option_or_source_is_named(
        self,
        format: str,
        verb: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        tree(tmp_path / "one")
        assert self.call(verb, "--format", format) == 0
        previous = versions(tmp_path / "out")
        other = next(each for each, of in FORMATS_OF.items() if of == verb and each != format)
        named = "--format" if verb == "pack" else "--format or --size"
        kind = "packing" if verb == "pack" else "export"
        capsys.readouterr()
        assert self.call(verb, "--format", other) == 2
        message = f"error: out has the {kind} of this data set with another {named}: remove the folder, or choose "
        assert message in capsys.readouterr().err
        tree(tmp_path / "one", labels=("third",))
        assert self.call(verb, "--format", format) == 2
        message = f"error: out has the {kind} of another data set, or of this one before its files changed: remove "
        assert message in capsys.readouterr().err
        assert versions(tmp_path / "out") == previous

    def test_a_damaged_or_missing_file_is_written_again(self, format: str, verb: str, tmp_path: Path) -> None:
        name, out = tree(tmp_path / "one"), tmp_path / "out"
        WRITERS[format](name, out)
        complete = content(out)
        for file in sorted(
            name for name in complete if name.endswith((".tar", ".rec", ".jpg", ".png", "0.idx", ".npz"))
        ):
            for damage in (Path.unlink, lambda place: place.write_bytes(b"damaged")):
                if damage is Path.unlink or not file.endswith((".idx", ".npz")):
                    damage(out / file)
                    WRITERS[format](name, out)
                    assert content(out) == complete, file

    def test_images_that_were_left_out_are_reported_again(
        self,
        format: str,
        verb: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        tree(tmp_path / "one")
        (tmp_path / "one" / "cat" / "0.jpg").write_text("no image")
        assert self.call(verb, "--format", format, "--on-error", "skip") == 0
        previous = versions(tmp_path / "out")
        capsys.readouterr()
        assert self.call(verb, "--format", format, "--on-error", "skip") == 0
        message = "left out: out is complete except for images that could not be read (1)"
        assert message in capsys.readouterr().out
        assert self.call(verb, "--format", format) == 2
        assert "fix it or remove it from the set (--on-error skip leaves it out)" in capsys.readouterr().err
        assert versions(tmp_path / "out") == previous


def test_another_size_of_shards_is_named(tmp_path: Path) -> None:
    dataset = load(DataConfig(name=tree(tmp_path / "one"), normalize="none"))
    pack(dataset, tmp_path / "out", "shards", 300, silent)
    refused(lambda: pack(dataset, tmp_path / "out", "shards", 600, silent), "with another --shard-mib: remove")
    refused(
        lambda: pack(dataset, tmp_path / "out", "records", 600, silent), "with another --format and --shard-mib: remove"
    )
    (tmp_path / "out" / "pack.json").write_text("[1]")
    refused(lambda: pack(dataset, tmp_path / "out", "shards", 300, silent), "has the packing of another data set")


@pytest.mark.parametrize("kind", ["shards", "records"])
def test_a_packing_of_changed_files_is_not_resumed(kind: str, tmp_path: Path) -> None:
    folder = tree(tmp_path / "one")
    dataset = load(DataConfig(name=folder, normalize="none"))
    with pytest.raises(KeyboardInterrupt):
        pack(dataset, tmp_path / "out", kind, 300, stop_after(2))
    assert len(list((tmp_path / "out").glob("*.done"))) == 2
    (tmp_path / "out" / ".train-00002.tar.1.tmp").touch()
    pack(dataset, tmp_path / "resumed", kind, 300, silent)
    for file in (tmp_path / "one" / "cat").iterdir():
        status, old = file.stat(), file.read_bytes()
        file.write_bytes(old[:-20] + bytes(20))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    refused(lambda: pack(dataset, tmp_path / "out", kind, 300, silent), "has the packing of another", "files changed")


def test_packing_removes_temporary_files_of_a_killed_one(tmp_path: Path) -> None:
    dataset = load(DataConfig(name=tree(tmp_path / "one"), normalize="none"))
    with pytest.raises(KeyboardInterrupt):
        pack(dataset, tmp_path / "out", "shards", 300, stop_after(2))
    (tmp_path / "out" / ".train-00002.tar.1.tmp").touch()
    pack(dataset, tmp_path / "out", "shards", 300, silent)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("size", [None, 8])
def test_a_resumed_export_keeps_only_what_it_wrote(size: int | None, tmp_path: Path) -> None:
    dataset = load(DataConfig(name=tree(tmp_path / "one"), normalize="none"))
    export(dataset, tmp_path / "whole", size, silent)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export(dataset, out, size, stop_after(5))
    files = sorted(file for file in out.rglob("*0.*") if file.suffix in SUFFIXES)
    files[0].write_bytes(b"")  # as after a power failure
    (files[0].parent / ".00000001.jpg.1.tmp").touch()
    export(dataset, out, size, silent)
    assert content(out) == content(tmp_path / "whole")
    files[0].write_bytes(image(99, "JPEG"))
    export(dataset, out, size, silent)
    assert content(out) == content(tmp_path / "whole")


def in_memory(classes: tuple[str, ...]) -> DataSet:
    labels = np.repeat(np.arange(len(classes)), 3)
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    split = ResidentSplit(labels=labels, images=images)
    return DataSet(name="names", classes=classes, train=split, test=split[np.arange(len(labels) - 1)], image_size=4)


NAMES = [
    ("a/b", "c"), ("cat", "CAT"), ("café", "cafe\u0301"), ("a b", "a\\b"), ("a\nb", "c\\nd"), ("c:\\x", '"quoted"'),
    ("cr\rlf", "#hash"), ("-rf", "*"), ("\u2028", "\udcff"), ("0", "10", "9"),
    ("x" * 255, "y"), ("plan.json", "export.json"), ("only",), (" lead", "trail "), ("a.jpg", "b.tar"),
]  # fmt: skip
ODD = {
    ("a/b", "a_b"): "a_b", (".hid", "b"): ".hid", ("BACKGROUND_Google", "b"): "BACKGROUND", ("..", "b"): "..",
    (".", "b"): "class .", ("a", "a"): "two classes named a", ("b", "lost+found"): "lost+found",
    ("x" * 256, "b"): "xxx", ("x\0", "b"): r"x\x00", ("train", "test"): "train/", ("__MACOSX", "b"): "__MACOSX",
    ("", "b"): "class ",
}  # fmt: skip


@pytest.mark.parametrize("classes", NAMES)
def test_an_export_reads_as_the_same_classes(classes: tuple[str, ...], tmp_path: Path) -> None:
    dataset = in_memory(classes)
    count = export(dataset, tmp_path / "out", None, silent).images
    expected = {part: Counter({name.replace("/", "_"): n for name, n in by_class.items()})
                for part, by_class in counts(dataset).items()}  # fmt: skip
    assert counts(load(DataConfig(name=str(tmp_path / "out"), normalize="none"))) == expected
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "out", capture_output=True, check=False
    )
    assert checked.returncode == 0 and checked.stdout.count(b": OK\n") == count, checked.stderr


@pytest.mark.parametrize(("classes", "named"), ODD.items())
def test_an_export_refuses_invalid_folder_names(classes: tuple[str, ...], named: str, tmp_path: Path) -> None:
    refused(lambda: export(in_memory(classes), tmp_path / "out", None, silent), named)
    assert not list(tmp_path.iterdir())


PIECES = (
    "",
    ".",
    "..",
    "/",
    "\\",
    "a",
    "A",
    "_",
    "\n",
    "\0",
    "train",
    "val",
    "test",
    "set",
    "BACKGROUND",
    "@eadir",
    "é",
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(names=st.lists(st.lists(st.sampled_from(PIECES), max_size=3).map("".join), min_size=1, max_size=4))
def test_an_export_keeps_all_classes_or_writes_nothing(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "out")
        dataset = in_memory(tuple(names))
        try:
            export(dataset, out, None, silent)
        except UserError:
            assert not list(Path(place).iterdir())
            return
        exported = counts(load(DataConfig(name=str(out), normalize="none")))
        for part, by_class in counts(dataset).items():
            assert exported[part] == Counter({name.replace("/", "_"): n for name, n in by_class.items()})


def test_class_names_of_shards_are_checked_before_an_export(tmp_path: Path) -> None:
    write_tar(tmp_path / "set" / "train-0.tar", samples(["..", "ok"] * 10))
    refused(lambda: WRITERS["folder"](str(tmp_path / "set"), tmp_path / "out"), "class ..")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("classes", [("a", "a"), ("a\nb", "c"), ("", "b"), ("\udcff", "b")])
def test_a_packing_refuses_names_before_it_writes(classes: tuple[str, ...], tmp_path: Path) -> None:
    refused(lambda: pack(in_memory(classes), tmp_path / "out", "shards", 10**6, silent), "class")
    assert not (tmp_path / "out").exists()


def test_each_format_that_is_read_has_a_suffix() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)
    assert all(SUFFIXES[f".{SUFFIX_OF[format]}"] == format for format in FORMATS)


@each_writer
def test_images_of_every_format_and_name_are_copied(write: Write, tmp_path: Path) -> None:
    for format in (*FORMATS, "MPO"):
        tree(tmp_path / "one", labels=(format,), format=format)
    write(str(tmp_path / "one"), tmp_path / "out")
    again = load(DataConfig(name=str(tmp_path / "out"), normalize="none"))
    assert counts(again) == counts(load(DataConfig(name=str(tmp_path / "one"), normalize="none")))


def skipping(name: str, out: Path, kind: str) -> None:
    if kind in ("jpeg", "folder"):
        data_export.export(name, out=out, format=kind, on_error="skip")
    else:
        data_pack.pack(name, out=out, format=kind, on_error="skip")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_readable_images_is_refused(kind: str, part: str, tmp_path: Path) -> None:
    for each in ("train", "test"):
        tree(tmp_path / "set" / each)
    for file in (tmp_path / "set" / part).rglob("*.jpg"):
        file.write_text("no image")
    # Packing first measures the mean of train, which has another error message.
    problem = f"every image of part {part} is unreadable|none of the images could be read"
    with pytest.raises(UserError, match=problem):
        skipping(str(tmp_path / "set"), tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["shards", "records"])
def test_a_shard_without_readable_images_is_omitted(kind: str, tmp_path: Path) -> None:
    for each in ("train", "test"):
        tree(tmp_path / "set" / each)
    dataset = load(DataConfig(name=str(tmp_path / "set"), normalize="none"))
    for index in range(7):
        dataset.test.files[index].write_text("no image")
    packed = pack(dataset, tmp_path / "out", kind, 300, silent, silent)
    assert all(len(part) > 1 for part in packed.described.parts.values())
    again = load(DataConfig(name=str(tmp_path / "out"), normalize="none"))
    assert len(again.train) == 10 and len(again.test) == 3


def test_an_export_with_a_class_that_is_unreadable_in_train_is_refused(tmp_path: Path) -> None:
    for each in ("train", "test"):
        tree(tmp_path / "set" / each)
    for file in (tmp_path / "set" / "train" / "dog").iterdir():
        file.write_text("no image")
    refused(lambda: skipping(str(tmp_path / "set"), tmp_path / "out", "jpeg"), "without its unreadable images", "dog")
    refused(lambda: load(DataConfig(name=str(tmp_path / "out"))), "unfinished export")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_reported_and_the_work_resumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path / "one")
    real, calls = Path.replace, []

    def full(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 4:
            raise OSError(28, "No space left on device", str(target))
        return real(self, target)

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", full)
        with pytest.raises((Failure, OSError), match="No space left"):
            WRITERS[kind](folder, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tmp"))
    WRITERS[kind](folder, tmp_path / "out")
    WRITERS[kind](folder, tmp_path / "whole")
    names = {"set.json", "SHA256SUMS"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        file.name for file in (tmp_path / "whole").iterdir()
    }
    assert all(
        file.read_bytes() == (tmp_path / "whole" / file.name).read_bytes()
        for file in (tmp_path / "out").iterdir()
        if file.name in names
    )


def test_classes_without_images_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "set" / "train-0.tar", samples([0, 2] * 5))
    WRITERS["folder"](str(tmp_path / "set"), tmp_path / "out")
    assert "1 classes have no images and no folder: 1" in capsys.readouterr().out


@each_writer
def test_links_that_lead_out_of_the_set_are_named_once_and_followed(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path / "private", labels=("own",), first=20)
    tree(tmp_path / "set")
    (tmp_path / "set" / "cat" / "inner.jpg").symlink_to("0.jpg")
    (tmp_path / "link").symlink_to("set")  # the set's own folder may be a link
    write("link", tmp_path / "without")
    assert "outside" not in capsys.readouterr().out
    (tmp_path / "set" / "cat" / "x.jpg").symlink_to(tmp_path / "private" / "own" / "0.jpg")
    (tmp_path / "set" / "more").symlink_to("../private/own")
    write("set", tmp_path / "out")
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "outside" in line]
    first = f"cat/x.jpg -> {tmp_path}/private/own/0.jpg"
    assert note.startswith("note: 6 files of the set are outside of ") and f"behind links ({first}, ...)" in note
    assert sum(sum(part.values()) for part in counts(load(DataConfig(name=str(tmp_path / "out")))).values()) == 17


@each_writer
def test_a_shard_behind_a_link_is_named(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_pack.pack(tree(tmp_path / "set"), out=tmp_path / "packed", format="shards")
    (tmp_path / "packed" / "train-00000.tar").rename(tmp_path / "secret.tar")
    (tmp_path / "packed" / "train-00000.tar").symlink_to("../secret.tar")
    capsys.readouterr()
    write(str(tmp_path / "packed"), tmp_path / "out")
    line = f"note: 1 file of the set is outside of {tmp_path}/packed, behind a link (train-00000.tar -> "
    assert capsys.readouterr().out.count(line) == 1

"""`distdl data verify`: findings, messages, and that a crash of the decoder affects one image only."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.cli.__main__ import main
from distdl.data.storage import decode

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module", autouse=True)
def decoder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import the decoder's libraries once for all processes."""
    file = tmp_path_factory.mktemp("decoder") / "1.png"
    Image.new("RGB", (8, 8)).save(file)
    decode.decode(file, 3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write 24 different images in two classes: 16 for training and 8 for test."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for label in CLASSES:
            for number in range(count):
                file = tmp_path / "photos" / split / label / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (10 + number, 20, 3), np.uint8)).save(file)
    return tmp_path / "photos"


def verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["data", "verify", str(folder), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_clean_set_has_no_findings(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = verified(photos, capsys)
    assert (code, report["findings"]) == (0, [])
    assert report["images"] == {"train": 16, "test": 8}
    assert report["classes"] == {label: {"train": 8, "test": 4} for label in CLASSES}
    assert (report["width"], report["height"]) == ([20, 20], [10, 17])
    assert main(["data", "verify", str(photos)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no findings"


def test_each_fault_is_found_and_listed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = photos / "train", photos / "test"
    complete = (train / "cat/0.png").read_bytes()
    (train / "cat/cut.png").write_bytes(complete[: len(complete) // 2])
    (train / "cat/text.jpg").write_text("<html>not found</html>")
    (train / "dog/empty.png").write_bytes(b"")
    (train / "dog/lost.png").symlink_to("gone.png")
    (train / "cat/copy.png").write_bytes(complete)
    (train / "dog/copy.png").write_bytes(complete)
    (test / "cat/copy.png").write_bytes((train / "cat/1.png").read_bytes())
    (test / "dog/empty.png").write_bytes(b"")  # unreadable, so it is no duplicate of the other empty file
    code, report = verified(photos, capsys)
    assert code == 1
    kinds = {
        (each["kind"], each["split"], Path(each["image"]).relative_to(photos).as_posix()) for each in report["findings"]
    }
    assert kinds == {
        ("unreadable", "train", "train/cat/cut.png"),
        ("unreadable", "train", "train/cat/text.jpg"),
        ("unreadable", "train", "train/dog/empty.png"),
        ("unreadable", "train", "train/dog/lost.png"),
        ("unreadable", "test", "test/dog/empty.png"),
        ("duplicate", "train", "train/cat/copy.png"),
        ("label conflict", "train", "train/dog/copy.png"),
        ("leak", "test", "test/cat/copy.png"),
    }
    assert len(report["findings"]) == len(kinds)
    assert main(["data", "verify", str(photos)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "8 findings: 5 unreadable, 1 leak, 1 label conflict, 1 duplicate"
    assert f"leak: test: {test}/cat/copy.png has the same bytes as {train}/cat/1.png (train, class cat)" in lines
    assert f"unreadable: {train}/dog/lost.png: No such file or directory" in lines


def test_images_in_memory_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "digits"]) == 0
    assert "1,437" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["shards", "records"])
def test_a_packed_set_is_verified(kind: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "pack", str(photos), "--format", kind, "--out", "packed"]) == 0
    code, report = verified(Path("packed"), capsys)
    assert (code, report["findings"], report["images"]) == (0, [], {"train": 16, "test": 8})


def test_a_folder_without_a_data_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_packed_set_is_compared_with_its_checksums(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = photos.with_name("packed")
    assert main(["data", "pack", str(photos), "--format", "shards", "--out", str(packed)]) == 0
    assert verified(packed, capsys)[0] == 0
    shard = packed / "test-00000.tar"
    content = bytearray(shard.read_bytes())
    content[600] ^= 1  # within the first image
    shard.write_bytes(content)
    assert main(["data", "verify", str(packed)]) == 2
    assert "test-00000.tar" in capsys.readouterr().err

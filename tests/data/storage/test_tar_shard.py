"""Members of a tar shard: images and labels by key, and members of another kind in messages."""

from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.data.storage.tar_shard import scan_tar
from shard_files import png, samples, write_tar

IMAGE, LABEL = ("1.png", png()), ("1.cls", b"0")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([IMAGE], r"its image 1 has no label \(a member 1\.cls\); if the archive has CLASS folders"),
        ([IMAGE, ("1.json", b"")], r"its image 1 has no label \(a member 1\.cls\); there is 1\.json"),
        ([LABEL], "it has no images"),
        ([*samples([0]), LABEL], r"its label 1\.cls has no image of a known format$"),
        ([*samples([0]), ("1.avi", b""), LABEL], r"its label 1\.cls has no image of a known format; there is 1\.avi"),
        ([*samples([0]), ("0.jpg", png())], r"two images with the same key, '0\.png' and '0\.jpg'"),
        ([*samples([0]), ("0.cls", b"1")], r"two labels with the same key, '0\.cls'"),
    ],
)
def test_members_without_a_partner_are_named(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scan_tar(write_tar(tmp_path / "train.tar", members))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("2147483648", "label 2147483648 is not a class number"),
        ("-1", "label -1 is negative"),
        ("0.5", r"label 0\.cls is '0\.5': class numbers are written 0, 1 and so on"),
    ],
)
def test_labels_that_are_no_class_are_named(tmp_path: Path, label: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scan_tar(write_tar(tmp_path / "train.tar", samples([label])))


def test_the_largest_class_number() -> None:
    table = scan_tar(write_tar(Path("train.tar"), samples([2**31 - 1, "7.0"])))
    assert table.label.tolist() == [2**31 - 1, 7]

"""IDX and CIFAR files, also compressed, whose header does not match their size: a one-line error, little memory."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.sets import idx_cifar
from distdl.data.sets.load import load

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(*shape: int, magic: bytes = b"\0\0\x08", content: bytes | None = None) -> bytes:
    """Content of an idx file whose header states `shape`."""
    content = bytes(int(np.prod(np.abs(shape)))) if content is None else content
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}i", *shape) + content


def write(folder: Path, images: bytes, labels: bytes, suffix: str) -> None:
    for name, content in ((IMAGES, images), (LABELS, labels)):
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(-2, -14, 28), "header with shape -2 x -14 x 28"),
        (idx(0, 28, 28), "header with shape 0 x 28 x 28"),
        (idx(2**31 - 1, 2**31 - 1, 2**31 - 1, content=b"x"), "header with shape 2147483647 x"),
        (idx(3, 5, 6, content=bytes(89)), "has 89 bytes of data, but 90 according to its header"),
        (idx(3, 5, 6, content=bytes(91)), "more than 90 bytes of data"),
        (idx(4, 5, 6), "has 4 images but .* has 3 labels"),
        (idx(90), "not an idx file of bytes with 3 dimensions"),
        (idx(3, 5, 6, magic=b"\0\0\x0d"), "not an idx file"),
        (idx(3, 5, 6)[:9], "not an idx file"),
        (b"", "not an idx file"),
    ],
)
def test_headers_that_do_not_match_are_refused(images: bytes, message: str, suffix: str, tmp_path: Path) -> None:
    write(tmp_path, images, idx(3), suffix)
    with pytest.raises(UserError, match=message) as error:
        idx_cifar.idx(tmp_path, "train", 10)
    assert str(tmp_path / IMAGES) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_valid_files_are_read(suffix: str, tmp_path: Path) -> None:
    pixels = np.arange(90, dtype=np.uint8)
    write(tmp_path, idx(3, 5, 6, content=pixels.tobytes()), idx(3, content=bytes([0, 9, 4])), suffix)
    split = idx_cifar.idx(tmp_path, "train", 10)
    assert split.labels.tolist() == [0, 9, 4] and (split.images.ravel() == pixels).all()
    assert split.images.flags.writeable


def test_a_small_gz_needs_no_more_memory_than_its_header_states(tmp_path: Path) -> None:
    write(tmp_path, idx(3, 5, 6), idx(3), ".gz")
    with gzip.open(tmp_path / f"{IMAGES}.gz", "wb", compresslevel=1) as file:
        file.write(idx(3, 5, 6))
        for _ in range(40):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="more than 90 bytes of data"):
            idx_cifar.idx(tmp_path, "train", 10)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()


def test_a_damaged_gz_is_refused(tmp_path: Path) -> None:
    write(tmp_path, idx(3, 5, 6), idx(3), ".gz")
    file = tmp_path / f"{IMAGES}.gz"
    content = file.read_bytes()
    for damaged in (content[:-5], content[:20], content[:10] + b"\xff\xff" + content[12:], content[:-8] + bytes(8)):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{IMAGES}\.gz") as error:
            idx_cifar.idx(tmp_path, "train", 10)
        assert "\n" not in str(error.value)


def test_class_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UserError, match=r"names\.txt is not text in UTF-8"):
        idx_cifar.read_names(tmp_path / "names.txt", 2)


@pytest.mark.parametrize("names", ["", "a", "a\nb\nc", "a\n\na\n"])
def test_a_wrong_number_of_class_names_is_refused(names: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(UserError, match=r"names\.txt has . different class names, but the set has 2 classes"):
        idx_cifar.read_names(tmp_path / "names.txt", 2)


def test_a_small_set_of_one_class_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST"
    folder.mkdir()
    for prefix, labels in (("train", [3] * 5), ("t10k", [3, 4])):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(len(labels), 28, 28))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(len(labels), content=bytes(labels)))
    assert load(DataConfig(name="mnist", root=tmp_path)).notes == (
        "mnist has 5 training and 2 test images; the original has 60,000 and 10,000",
        "train has no images of 9 of 10 classes: 0, 1, 2, ...",
        "test has no images of 8 of 10 classes: 0, 1, 2, ...",
    )


def test_a_cifar_file_truncated_between_records_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, count in (("train.bin", 300), ("test.bin", 100)):
        records = np.zeros((count, 2 + 3072), np.uint8)
        records[:, 1] = np.arange(count) % 100
        (folder / name).write_bytes(records.tobytes())
    notes = load(DataConfig(name="cifar100", root=tmp_path)).notes
    assert any("300 training and 100 test images; the original has 50,000 and 10,000" in note for note in notes)
    assert any("fine_label_names.txt is missing: classes are named by their numbers" in note for note in notes)


def test_digits_are_those_of_scikit_learn_in_256_levels() -> None:
    published = datasets.load_digits()  # 17 levels
    train, test, names = idx_cifar.digits()
    assert names == tuple("0123456789")
    images, labels = np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    assert images.shape == (1797, 8, 8, 1) and len(test) == 360
    assert np.array_equal(images[..., 0], np.rint(published.images * 255 / 16))
    assert np.array_equal(labels, published.target)

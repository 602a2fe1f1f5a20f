"""Loading data sets by name: search, reading, splits, normalization, and errors of one line."""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core import paths
from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.dataset import ResidentSplit
from distdl.data.sets.load import load

SIZES = {  # training, test, classes
    "digits": (1437, 360, 10),
    "mnist": (60_000, 10_000, 10),
    "cifar10": (50_000, 10_000, 10),
    "cifar100": (6_000, 2_000, 100),
    "caltech101": (1071, 529, 20),
    "flowers": (175, 75, 5),
    "gtsrb": (1290, 430, 43),
    "dtd": (900, 300, 10),
    "omniglot": (3630, 1210, 242),
}


@pytest.mark.parametrize("name", SIZES)
def test_real_sets_are_read_completely(name: str, data_root: Path) -> None:
    dataset = load(DataConfig(name=name, root=data_root, normalize="none"))
    assert (len(dataset.train), len(dataset.test), len(dataset.classes)) == SIZES[name]
    for split in (dataset.train, dataset.test):
        assert set(split.labels.tolist()) <= set(range(len(dataset.classes)))
        if isinstance(split, ResidentSplit):
            assert split.images.shape == (len(split), dataset.image_size, dataset.image_size, dataset.channels)
        else:
            assert all(file.is_file() for file in split.files)


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_known_statistics_are_those_of_the_images(name: str, data_root: Path) -> None:
    dataset = load(DataConfig(name=name, root=data_root))
    for channel in range(dataset.channels):
        counts, values = np.bincount(dataset.train.images[..., channel].ravel(), minlength=256), np.arange(256) / 255
        mean = np.average(values, weights=counts)
        assert np.isclose(mean, dataset.mean[channel], atol=2e-4)
        assert np.isclose(np.average((values - mean) ** 2, weights=counts) ** 0.5, dataset.std[channel], atol=2e-4)


def test_statistics_of_files_are_measured_once(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, color in enumerate([(0, 51, 102), (102, 51, 204)]):
        file = tmp_path / "set" / "train" / "a" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), color).save(file)
    shutil.copytree(tmp_path / "set" / "train", tmp_path / "set" / "test")
    config = DataConfig(name=str(tmp_path / "set"), image_size=16)
    first = load(config)
    assert first.mean == (0.2, 0.2, 0.6)
    assert first.std == (0.2, round(1 / 255, 4), 0.2)  # a constant channel is not divided by zero
    assert len(list((own_cache / "statistics").glob("*.json"))) == 1
    monkeypatch.setattr("distdl.data.sets.statistics._measure", lambda *_: pytest.fail("measured twice"))
    assert load(config).mean == first.mean


def test_statistics_are_measured_again_when_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sets with the same relative path; one set before and after its images were replaced, with the same times."""

    def color(folder: Path, red: int) -> float:
        for name in ("train/a/0.bmp", "test/a/0.bmp"):
            file = folder / "set" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (red, 0, 0)).save(file)
            os.utime(file, ns=(0, 0))
        monkeypatch.chdir(folder)
        return load(DataConfig(name="./set", image_size=8)).mean[0]

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert (color(tmp_path / "a", 51), color(tmp_path / "b", 102), color(tmp_path / "a", 153)) == (0.2, 0.4, 0.6)


@pytest.mark.parametrize(("image_size", "deviation"), [(32, 0.3), (8, 0.0)])
def test_statistics_are_those_of_images_of_the_configured_size(
    tmp_path: Path, image_size: int, deviation: float
) -> None:
    """Stripes of one pixel become gray when four of them are one pixel; the central crop of 28 blurs them."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    for name in ("train/a/0.png", "test/a/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(stripes).save(tmp_path / name)
    std = load(DataConfig(name=str(tmp_path), image_size=image_size)).std
    assert std == pytest.approx([deviation] * 3, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"normalize": "none"}, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ({"normalize": "imagenet"}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    ],
)
def test_statistics_follow_the_configuration(
    settings: dict, mean: tuple[float, ...], std: tuple[float, ...], data_root: Path
) -> None:
    dataset = load(DataConfig(name="cifar100", root=data_root, **settings))
    assert (dataset.mean, dataset.std) == (mean, std)


def test_statistics_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"3 values.*1 channels"):
        load(DataConfig(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)))
    with pytest.raises(UserError, match="imagenet needs 3"):
        load(DataConfig(normalize="imagenet"))


def test_the_validation_split_is_stratified_and_depends_on_the_seed(data_root: Path) -> None:
    def divided(seed: int) -> tuple[set[Path], set[Path]]:
        config = DataConfig(name="caltech101", root=data_root, validation=1 / 3, split_seed=seed, normalize="imagenet")
        dataset = load(config)
        counts = np.bincount(load(DataConfig(name="caltech101", root=data_root, normalize="none")).train.labels)
        assert (np.bincount(dataset.validation.labels) == np.rint(counts / 3)).all()
        return set(dataset.train.files), set(dataset.validation.files)

    train, validation = divided(0)
    assert not train & validation and len(train | validation) == 1071
    assert divided(0) == (train, validation)
    assert divided(1) != (train, validation)


@pytest.mark.parametrize(("image_size", "expected"), [(0, 8), (12, 12)])
def test_images_have_the_configured_size_or_that_of_the_set(image_size: int, expected: int) -> None:
    assert load(DataConfig(image_size=image_size)).image_size == expected


def test_a_limit_takes_equally_many_samples_of_each_class() -> None:
    dataset = load(DataConfig(limit=105))
    assert sorted(np.bincount(dataset.train.labels).tolist()) == [10] * 5 + [11] * 5
    assert len(load(DataConfig(limit=10**6)).train) == 1437
    again, other = (load(DataConfig(limit=105, split_seed=seed)) for seed in (0, 1))
    assert np.array_equal(again.train.images, dataset.train.images)
    assert not np.array_equal(other.train.images, dataset.train.images)


def test_the_order_of_data_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    assert paths.data_root(None) == own_cache / "data"
    monkeypatch.setenv("DISTDL_DATA", str(tmp_path / "b"))
    assert paths.data_root(None) == tmp_path / "b"
    assert paths.data_root(tmp_path / "a") == tmp_path / "a"


def test_the_root_may_be_the_folder_of_the_set(data_root: Path) -> None:
    assert len(load(DataConfig(name="cifar100", root=data_root / "cifar-100-binary")).train) == 6000


def test_the_error_for_a_missing_set_lists_the_searched_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"caltech101.*not in {tmp_path}.*--data.root.*DISTDL_DATA"):
        load(DataConfig(name="caltech101", root=tmp_path))


@pytest.mark.parametrize(
    ("name", "message"), [("digitz", 'did you mean "digits"'), ("no/such/folder", "no such folder"), ("", "not known")]
)
def test_an_unknown_set_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(DataConfig(name=name))


@pytest.fixture
def mnist(tmp_path: Path, data_root: Path) -> Path:
    return Path(shutil.copytree(data_root / "MNIST", tmp_path / "MNIST")) / "raw"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-100], "47040000 according to its header"),
        (lambda raw: raw + b"\0", "47040000 according to its header"),
        (lambda raw: b"\1" + raw[1:], "not an idx file"),
        (lambda raw: b"", "not an idx file"),
    ],
)
def test_a_damaged_idx_file_is_named(damage, message: str, mnist: Path) -> None:
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        load(DataConfig(name="mnist", root=mnist.parent.parent))


def test_a_label_out_of_range_is_named(mnist: Path) -> None:
    path = mnist / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-2] + bytes([3, 17]))
    with pytest.raises(UserError, match=f"{path}: label 17 of sample 9999 is out of range, there are 10"):
        load(DataConfig(name="mnist", root=mnist.parent.parent))


def test_idx_files_may_be_compressed(mnist: Path) -> None:
    path = mnist / "t10k-images-idx3-ubyte"
    with gzip.open(path.with_name(path.name + ".gz"), "wb", compresslevel=1) as file:
        file.write(path.read_bytes())
    path.unlink()
    assert len(load(DataConfig(name="mnist", root=mnist.parent.parent)).test) == 10_000
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bcut short")
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz cannot be read"):
        load(DataConfig(name="mnist", root=mnist.parent.parent))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-7], "not a multiple of 3074"),
        (lambda raw: b"", "not a multiple of 3074"),
        (lambda raw: raw[:1] + bytes([200]) + raw[2:], "label 200 of sample 0 is out of range"),
    ],
)
def test_a_damaged_cifar_file_is_named(damage, message: str, tmp_path: Path, data_root: Path) -> None:
    folder = Path(shutil.copytree(data_root / "cifar-100-binary", tmp_path / "cifar-100-binary"))
    path = folder / "train.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        load(DataConfig(name="cifar100", root=tmp_path))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(UserError, match=r"data_batch_1\.bin is missing"):
        load(DataConfig(name="cifar10", root=tmp_path))

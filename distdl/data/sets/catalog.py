"""Data sets that are known by name: their location, how to read them, and the properties of their images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distdl.core.config import DataConfig
from distdl.data.dataset import Raw, ResidentSplit, Split
from distdl.data.sets import decathlon, idx_cifar
from distdl.data.storage import folders


@dataclass(frozen=True, kw_only=True)
class Source:
    """Origin and known properties of a data set."""

    text: str
    """One-line description."""
    read: Callable[[Path, DataConfig], Raw]
    """Function that reads the data set from its folder."""
    folders: tuple[str, ...] = ()
    """Possible folders under the data root; empty if the data set needs no folder."""
    origin: str = ""
    """Why the data set needs no folder."""
    files: tuple[tuple[str, str], ...] = ()
    """(url, md5) of the files that can be downloaded into the first of `folders`."""
    size: int
    """Height and width of the network's input, in pixels."""
    classes: int = 0
    """Number of classes if known before the data set is read, otherwise 0."""
    images: tuple[int, ...] = ()
    """Number of training and of test images as distributed; empty if that varies."""
    channels: int = 3
    central: float = 1.0
    """See `DataSet.central`."""
    mean: tuple[float, ...] = ()
    """Mean per channel of the training set, in 0 to 1; empty if it has to be measured."""
    std: tuple[float, ...] = ()
    """Standard deviation per channel, in 0 to 1; empty if it has to be measured."""
    packed: bool = False
    """Whether the data set is stored as shards or records."""


def _digits(folder: Path, config: DataConfig) -> Raw:
    train, test, classes = idx_cifar.digits()
    return Raw(train=train, test=test, classes=classes)


def _idx(folder: Path, classes: tuple[str, ...]) -> Raw:
    count = len(classes)
    return Raw(train=idx_cifar.idx(folder, "train", count), test=idx_cifar.idx(folder, "t10k", count), classes=classes)


def _cifar10(folder: Path, config: DataConfig) -> Raw:
    train = idx_cifar.cifar([folder / f"data_batch_{part}.bin" for part in range(1, 6)], 10, 1)
    return _named(folder / "batches.meta.txt", 10, train, idx_cifar.cifar([folder / "test_batch.bin"], 10, 1))


def _cifar100(folder: Path, config: DataConfig) -> Raw:
    train, test = idx_cifar.cifar([folder / "train.bin"], 100, 2), idx_cifar.cifar([folder / "test.bin"], 100, 2)
    return _named(folder / "fine_label_names.txt", 100, train, test)


def _named(names: Path, classes: int, train: Split, test: Split) -> Raw:
    notes = () if names.is_file() else (f"{names} is missing: classes are named by their numbers",)
    return Raw(train=train, test=test, classes=idx_cifar.read_names(names, classes), notes=notes)


def _noise(folder: Path, config: DataConfig) -> Raw:
    # A view of one black pixel with the shape of many images: it takes no memory.
    def split(count: int) -> Split:
        images = np.broadcast_to(np.zeros(1, np.uint8), (count, 224, 224, 3))
        return ResidentSplit(images=images, labels=np.arange(count) % 1000)

    return Raw(train=split(51_200), test=split(1_000), classes=tuple(f"class {number}" for number in range(1000)))


CENTRAL_CROP = 7 / 8
"""Central 224 of 256 pixels, the usual evaluation crop of photographs (Krizhevsky et al. 2012)."""
DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")

SETS: dict[str, Source] = {
    "digits": Source(
        text="1,797 handwritten digits of 8 x 8 pixels",
        read=_digits,
        origin="comes with scikit-learn",
        size=8,
        images=(1_437, 360),
        classes=10,
        channels=1,
        mean=(0.3054,),
        std=(0.3753,),
    ),
    "mnist": Source(
        text="70,000 handwritten digits of 28 x 28 pixels",
        read=lambda folder, config: _idx(folder, DIGITS),
        folders=("MNIST/raw", "mnist/raw", "MNIST", "mnist"),
        files=tuple(
            (f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}-ubyte.gz", md5)
            for name, md5 in zip(
                IDX_FILES,
                (
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "d53e105ee54ea40749a09fcbcd1e9432",
                    "9fb629c4189551a2d022fa330f9573f3",
                    "ec29112dd5afa0611ce80d1b7f02629c",
                ),
                strict=True,
            )
        ),
        size=28,
        images=(60_000, 10_000),
        classes=10,
        channels=1,
        mean=(0.1307,),
        std=(0.3081,),
    ),
    "fashion-mnist": Source(
        text="70,000 pieces of clothing of 28 x 28 pixels",
        read=lambda folder, config: _idx(folder, CLOTHES),
        folders=("FashionMNIST/raw", "fashion-mnist/raw", "FashionMNIST", "fashion-mnist"),
        files=tuple(
            (f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}-ubyte.gz", md5)
            for name, md5 in zip(
                IDX_FILES,
                (
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "25c81989df183df01b3e8a0aad5dffbe",
                    "bef4ecab320f06d8554ea6380940ec79",
                    "bb300cfdad3c16e7a12a480ee83cd310",
                ),
                strict=True,
            )
        ),
        size=28,
        images=(60_000, 10_000),
        classes=10,
        channels=1,
        mean=(0.2860,),
        std=(0.3530,),
    ),
    "cifar10": Source(
        text="60,000 photographs of 32 x 32 pixels in 10 classes",
        read=_cifar10,
        folders=("cifar-10-batches-bin",),
        files=(("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
        size=32,
        images=(50_000, 10_000),
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Source(
        text="60,000 photographs of 32 x 32 pixels in 100 classes",
        read=_cifar100,
        folders=("cifar-100-binary",),
        files=(("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),),
        size=32,
        images=(50_000, 10_000),
        classes=100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    "caltech101": Source(
        text="photographs of objects in 101 classes, split by the lists train.txt and test.txt",
        read=folders.read,
        folders=("caltech101", "Caltech101", "101_ObjectCategories"),
        size=224,
        classes=101,
        central=CENTRAL_CROP,
    ),
    "flowers": Source(
        text="photographs of 5 kinds of flowers",
        read=folders.read,
        folders=("flower_photos", "flowers"),
        size=224,
        classes=5,
        central=CENTRAL_CROP,
    ),
    "gtsrb": Source(
        text="German traffic signs in 43 classes, cut from video",
        read=folders.read,
        folders=("gtsrb", "GTSRB"),
        size=48,
        classes=43,
    ),
    "dtd": Source(
        text="describable textures in 47 classes",
        read=folders.read,
        folders=("dtd",),
        size=224,
        classes=47,
        central=CENTRAL_CROP,
    ),
    "omniglot": Source(
        text="handwritten characters of many alphabets, 20 drawings each",
        read=folders.read_omniglot,
        folders=("omniglot-py", "omniglot"),
        size=28,
        channels=1,
    ),
    "synthetic": Source(
        text="noise in ImageNet's shape, for loader synthetic: 51,200 images of 224 x 224 pixels in 1,000 classes",
        read=_noise,
        origin="generated, needs no files",
        size=224,
        classes=1000,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ),
}


def _domain(domain: decathlon.Domain) -> Source:
    original = SETS.get(domain.original)
    return Source(
        text=f"Visual Decathlon: {domain.title}, {decathlon.SIZE} x {decathlon.SIZE} pixels, in color",
        read=decathlon.reader(original.read if original else None),
        folders=decathlon.places(domain, original.folders if original else ()),
        size=decathlon.SIZE,
    )


SETS |= {domain.name: _domain(domain) for domain in decathlon.DOMAINS}


def names() -> list[str]:
    """Return the names of all data sets."""
    return list(SETS)

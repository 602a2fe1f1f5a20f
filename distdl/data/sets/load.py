"""Data sets by name or path: find, read and split them, and compute the statistics for normalization.

`data.name` is a name of the catalog, the path of a folder or archive, or a factory of another package: an entry point
of the group `distdl.datasets`, or package.module:callable. A factory returns a `DataSet`. If it has a parameter `root`,
it receives the data root; its other keyword parameters are settings (`Config.options`, key "dataset"):

    def stripes(*, root: Path, count: int = 60) -> DataSet:
        images = np.load(root / "stripes.npy")[:count]                          # [n, H, W, C] uint8
        split = ResidentSplit(images=images, labels=np.arange(count) % 2)
        return DataSet(name="stripes", classes=("a", "b"), train=split, test=split, channels=1, image_size=8)

    distdl train --data.name my_package:stripes --options dataset.count=40

data.validation, data.limit, data.labels and data.normalize apply to such a data set as to any other.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core import factories, registry
from distdl.core.config import DataConfig
from distdl.core.errors import UserError, nearest, reading
from distdl.core.paths import data_root, root_origin
from distdl.core.targets import TARGET
from distdl.core.text import name as shown
from distdl.data.dataset import DataSet, EncodedSplit, Raw
from distdl.data.sets import contract, relabel, statistics
from distdl.data.sets.catalog import CENTRAL_CROP, SETS, Source
from distdl.data.storage import folders, shards
from distdl.data.storage.archives import ARCHIVES, is_archive
from distdl.data.storage.download import build, download, find, find_archive, unpacked
from distdl.data.storage.set_file import read_set_file
from distdl.data.storage.splits import balanced, stratified

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation per channel with which torchvision's networks were trained."""


def load(config: DataConfig, options: Mapping[str, Any] | None = None, *, source: Source | None = None) -> DataSet:
    """Read a data set, split it and determine the statistics for normalization.

    Args:
        options: settings of another package's data set.
        source: the result of `source_of`, if the caller has it: another package's factory is then not called again.
    Raises:
        UserError: the data set is not known, not found, damaged, or too small for the configured split.
    """
    source = source or source_of(config.name, config.root, options)
    folder = locate(config.name, source, config.root)
    path = folder if config.name in SETS or not source.folders else Path(config.name).expanduser()
    with _naming(path, folder):
        raw = source.read(folder, config)
        mean, std = _moments(config, source, raw)
    notes = [note.replace(str(folder), str(path)) if path != folder else note for note in raw.notes]
    notes += _counts_notes(config.name, source, raw)
    if config.labels:
        raw = relabel.apply(config.labels, raw)
    train, validation = raw.train, raw.validation
    if config.validation:
        remaining, selected = stratified(train.labels, config.validation, config.split_seed)
        if not len(remaining) or not len(selected):
            empty = "validation" if len(remaining) else "training"
            raise UserError(
                f"data.validation {config.validation:g} leaves no {empty} images: it divides each class, and the "
                f"classes of {config.name} have {len(train) / len(raw.classes):.3g} training images on average"
            )
        absent = len(raw.classes) - len(np.unique(train.labels[selected]))
        if absent and train.labels.ndim == 1:
            notes.append(
                f"validation has no images of {absent:,} of {len(raw.classes):,} classes, which have one image each"
            )
        if validation is not None:
            notes.append(
                f"the {len(validation)} validation images of {config.name} are not used: data.validation is set"
            )
        train, validation = train[remaining], train[selected]
    if 0 < config.limit < len(train):
        train = train[balanced(train.labels, config.limit, config.split_seed)]
    return DataSet(
        name=config.name,
        classes=raw.classes,
        train=train,
        validation=validation,
        test=raw.test,
        image_size=config.image_size or source.size,
        channels=source.channels,
        central=source.central,
        mean=mean,
        std=std,
        notes=tuple(notes),
    )


def source_of(name: str, root: Path | None = None, options: Mapping[str, Any] | None = None) -> Source:
    """Return the row of SETS, or a row for another package's data set or for the path of a folder, shards or archive.

    Args:
        root: data root, passed to another package's data set.
        options: settings of another package's data set.
    Raises:
        UserError: `name` is none of these.
    """
    is_target = TARGET.fullmatch(name) and not Path(name).exists()
    if name not in SETS and (is_target or name in registry.rows("datasets")):
        return _plugin_source(name, root, options)
    if options:
        raise UserError(f"options.dataset: data set {name} has no settings")
    if name in SETS:
        return SETS[name]
    with reading(name, "a data set"):
        path = Path(name).expanduser()
        is_file = path.is_file()
        readable = is_archive(path) if is_file else bool(name) and path.is_dir()
    if readable:
        folder = _at_path(path)
        with _naming(path, folder):
            if shards.is_packed(folder):
                return _packed(name, folder)
        return Source(text=f"images of {path}", read=folders.read, folders=(name,), size=224, central=CENTRAL_CROP)
    if is_file:
        raise UserError(
            f"data.name {name} is a file, but not an archive that can be read ({', '.join(ARCHIVES)}): unpack it and "
            "use the folder's path"
        )
    if "/" in name:
        raise UserError(f"data.name: {name}: there is no such folder or archive")
    if ":" in name:
        raise UserError(f"data.name: {registry.unknown('datasets', name)}")
    known = [*SETS, *registry.rows("datasets")]
    raise UserError(
        f'data.name: data set "{name}" is not known{nearest(name, known)} (a path and package.module:callable are '
        "accepted too; distdl data list shows all)"
    )


def _plugin_source(name: str, root: Path | None, options: Mapping[str, Any] | None) -> Source:
    """Call the factory of another package's data set.

    Raises:
        UserError: it cannot be imported, its settings are wrong, or it does not return a valid DataSet.
    """
    factory = factories.get("datasets", name)
    arguments = {"root": data_root(root)} if "root" in factory.parameters else {}
    dataset = factory.make(options=options, **arguments)
    if problem := contract.problem(dataset):
        raise factory.fault(f"returned a DataSet with {problem}")
    return Source(
        text=factory.row.summary or f"returned by {factory.row.factory}",
        read=lambda folder, config: Raw(
            train=dataset.train,
            test=dataset.test,
            validation=dataset.validation,
            classes=dataset.classes,
            notes=dataset.notes,
        ),
        size=dataset.image_size,
        classes=len(dataset.classes),
        channels=dataset.channels,
        central=dataset.central,
        mean=_per_channel(dataset.mean, dataset.channels),
        std=_per_channel(dataset.std, dataset.channels),
    )


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


@contextlib.contextmanager
def _naming(path: Path, folder: Path) -> Iterator[None]:
    """Name the archive instead of its folder in the cache in errors about an unpacked archive."""
    try:
        yield
    except UserError as error:
        if path == folder:
            raise
        raise UserError(str(error).replace(str(folder), str(path))) from None


def _packed(name: str, folder: Path) -> Source:
    """Return the source of a folder of shards or records; without set.json the images are assumed to be photographs."""
    text = f"shards of {Path(name).expanduser()}"
    described = read_set_file(folder)
    if described is None:
        return Source(text=text, packed=True, read=shards.read, folders=(name,), size=224, central=CENTRAL_CROP)
    return Source(
        text=text,
        packed=True,
        read=shards.read,
        folders=(name,),
        size=described.image_size,
        channels=described.channels,
        central=described.central,
        mean=described.mean,
        std=described.std,
    )


def locate(name: str, source: Source, root: Path | None) -> Path:
    """Return the folder that contains the data set, after unpacking an archive or downloading it if necessary.

    Args:
        root: data root; None for the default one.
    Raises:
        UserError: the data set is not found; the message names the folders that were searched.
    """
    if not source.folders:
        return Path()
    if name not in SETS:
        return _at_path(Path(name).expanduser())
    base = data_root(root)
    with reading(base, "a folder of data sets"):
        places = find(base, source.folders)
    if places:
        return places
    target = base / source.folders[0]
    if archive := find_archive(base, source.folders):
        return unpacked(archive)
    problem = f'data set "{name}" is not in {base} ({root_origin(root)}; searched for {" or ".join(source.folders)})'
    if not source.files:
        raise UserError(f"{problem}: put it there, or set --data.root or $DISTDL_DATA to the folder that contains it")
    try:
        return build(target, lambda scratch: download(source.files, scratch))
    except (OSError, RuntimeError) as error:
        place = source.files[0][0].rsplit("/", 1)[0]
        names = ", ".join(url.rsplit("/", 1)[1] for url, _ in source.files)
        raise UserError(
            f"{problem}, and it cannot be downloaded ({error}): download {names} from {place} into {target}"
        ) from error


def available(root: Path) -> dict[str, tuple[str | None, str]]:
    """List all data sets: by name, the location under `root` (None if missing), and how to get the data set."""
    places: dict[str, tuple[str | None, str]] = {}
    for name, source in SETS.items():
        if not source.folders:
            places[name] = (source.origin, "")
            continue
        where = find(root, source.folders) or find_archive(root, source.folders)
        fetch = f"distdl data describe {name}" if source.files else f"put its folder at {root / source.folders[0]}"
        places[name] = (str(where) if where else None, fetch)
    return places


def _at_path(path: Path) -> Path:
    return path if path.is_dir() else unpacked(path)


def _counts_notes(name: str, source: Source, raw: Raw) -> list[str]:
    """Return sentences about classes without samples, and about sizes that differ from the distributed data set."""
    notes = []
    sizes = len(raw.train), len(raw.test)
    if source.images and sizes != source.images:
        train, test = source.images
        notes.append(
            f"{name} has {sizes[0]:,} training and {sizes[1]:,} test images; the original has {train:,} and {test:,}"
        )
    if source.classes and len(raw.classes) != source.classes:
        notes.append(f"{name} has {len(raw.classes):,} classes; the original has {source.classes:,}")
    for part, split in (("train", raw.train), ("validation", raw.validation), ("test", raw.test)):
        absent = [] if split is None else np.setdiff1d(np.arange(len(raw.classes)), split.labels).tolist()
        if absent:
            names = ", ".join(shown(raw.classes[number]) for number in absent[:3]) + ", ..." * (len(absent) > 3)
            notes.append(f"{part} has no images of {len(absent):,} of {len(raw.classes):,} classes: {names}")
    return notes


def _moments(config: DataConfig, source: Source, raw: Raw) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the configured mean and standard deviation per channel."""
    channels = source.channels
    if config.mean:
        if len(config.mean) != channels:
            raise UserError(
                f"data.mean has {len(config.mean)} values, but the images of {config.name} have {channels} channels"
            )
        return config.mean, config.std
    if config.normalize == "none":
        return (0.0,) * channels, (1.0,) * channels
    if config.normalize == "imagenet":
        if channels != 3:
            raise UserError(
                f"data.normalize imagenet needs 3 channels, but the images of {config.name} have {channels}"
            )
        return IMAGENET
    if source.mean:
        return source.mean, source.std
    if not isinstance(raw.train, EncodedSplit):
        return statistics.of_images(raw.train.images)
    return statistics.of_files(raw.train, channels, source.central, config.image_size or source.size, config)

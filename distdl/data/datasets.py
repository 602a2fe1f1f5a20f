"""From a name or a path to a data set: found, read, divided, and with the statistics to normalise it by."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np

from distdl.config import DataConfig
from distdl.data import divide, folders, relabel, shards, statistics
from distdl.data.base import DataSet, Raw
from distdl.data.places import (
    build,
    cache_folder,
    data_root,
    download,
    extract,
    find,
    find_archive,
    is_archive,
    root_origin,
)
from distdl.data.set_file import read_set_file
from distdl.data.sources import PHOTOGRAPH, SETS, Source
from distdl.errors import UserError, nearest, reading, reason

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation with which torchvision's networks were trained."""


def load(config: DataConfig) -> DataSet:
    """Read a data set, divided and with the statistics to normalise by.

    Raises:
        UserError: the set is not known, not found, damaged, or has too little for what is asked.
    """
    source = source_of(config.name)
    folder = locate(config.name, source, config.root)
    raw = source.read(folder, config)
    mean, std = _moments(config, source, raw)
    if config.labels:
        raw = relabel.apply(config.labels, raw)
    train, validation, notes = raw.train, raw.validation, list(raw.notes)
    if config.validation:
        kept, taken = divide.stratified(train.labels, config.validation, config.split_seed)
        if not len(kept) or not len(taken):
            lost = "validation" if len(kept) else "training"
            raise UserError(
                f"data.validation {config.validation:g} leaves no {lost} images: it divides each class, and the "
                f"classes of {config.name} have {len(train) / len(raw.classes):.3g} training images on average"
            )
        absent = len(raw.classes) - len(np.unique(train.labels[taken]))
        if absent and train.labels.ndim == 1:
            notes.append(f"validation has no images of {absent:,} of {len(raw.classes):,} classes: they have one image")
        if validation is not None:
            notes.append(f"{len(validation)} validation images of its own are not used: data.validation is set")
        train, validation = train[kept], train[taken]
    if 0 < config.limit < len(train):
        train = train[divide.balanced(train.labels, config.limit, config.split_seed)]
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


def source_of(name: str) -> Source:
    """The row of SETS, or one for the path of an image folder, of shards, or of an archive of either.

    Raises:
        UserError: the name is neither.
    """
    if name in SETS:
        return SETS[name]
    with reading(name, "a data set"):
        path = Path(name).expanduser()
        is_folder = bool(name) and path.is_dir()
        packed = is_folder and _is_packed(path)
        archive = path.is_file() and is_archive(path)
    if packed:
        return _packed(name, path)
    if is_folder or archive:
        return Source(text=f"images of {path}", read=folders.read, folders=(name,), size=224, central=PHOTOGRAPH)
    if "/" in name:
        raise UserError(f"data.name {name}: there is no such folder or archive")
    raise UserError(f'data set "{name}" is not known{nearest(name, SETS)} (distdl data list shows all)')


def _is_packed(folder: Path) -> bool:
    """Whether a folder is a set of shards or records, and not one of image files in which archives were left.

    Raises:
        UserError: it has image files as well as numbered shards.
    """
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read: {reason(error)}") from None
    if shards.is_packed(folder):
        return True
    tars = [*folder.glob("*.tar"), *folder.glob("*/*.tar")]
    numbered = next((tar for tar in sorted(tars) if re.search(r"-\d+\.tar$", tar.name)), None)
    if numbered and folders.has_images(folder):
        raise UserError(
            f"{folder} can be read in two ways: as shards ({numbered.name}) and as folders of images; move one of them"
        )
    return False


def _packed(name: str, folder: Path) -> Source:
    """The source of a folder of shards or records; without set.json they are taken for photographs."""
    text = f"shards of {folder}"
    described = read_set_file(folder)
    if described is None:
        return Source(text=text, packed=True, read=shards.read, folders=(name,), size=224, central=PHOTOGRAPH)
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
    """The folder that holds the set: as it lies, unpacked from an archive, or downloaded.

    Raises:
        UserError: where it was looked for, and what to do.
    """
    if not source.folders:
        return Path()
    if name not in SETS:
        return _at_path(Path(name).expanduser())
    base = data_root(root)
    with reading(base, "a folder of data sets"):
        found = find(base, source.folders)
    if found:
        return found
    target = base / source.folders[0]
    if archive := find_archive(base, source.folders):
        return build(target, lambda scratch: extract(archive, scratch))
    looked = f'data set "{name}" is not in {base} ({root_origin(root)}; looked for {" or ".join(source.folders)})'
    if not source.files:
        raise UserError(f"{looked}: put it there, or name the folder that has it by --data.root or $DISTDL_DATA")
    try:
        return build(target, lambda scratch: download(source.files, scratch))
    except (OSError, RuntimeError) as error:
        place = source.files[0][0].rsplit("/", 1)[0]
        names = ", ".join(url.rsplit("/", 1)[1] for url, _ in source.files)
        raise UserError(
            f"{looked}, and cannot be downloaded ({error}): fetch {names} from {place} into {target}"
        ) from error


def available(root: Path) -> dict[str, tuple[str | None, str]]:
    """By name, where under `root` each set lies, or None; and what brings it."""
    found: dict[str, tuple[str | None, str]] = {}
    for name, source in SETS.items():
        if not source.folders:
            found[name] = (source.origin, "")
            continue
        where = find(root, source.folders) or find_archive(root, source.folders)
        fetch = f"distdl data describe {name}" if source.files else f"put its folder at {root / source.folders[0]}"
        found[name] = (str(where) if where else None, fetch)
    return found


def _at_path(path: Path) -> Path:
    if path.is_dir():
        return path
    status = path.stat()
    key = hashlib.sha256(os.fsencode(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")).hexdigest()[:12]
    return build(cache_folder() / "data" / f"{path.name.split('.')[0]}-{key}", lambda scratch: extract(path, scratch))


def _moments(config: DataConfig, source: Source, raw: Raw) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel that the configuration asks for."""
    channels = source.channels
    if config.mean:
        if len(config.mean) != channels:
            raise UserError(
                f"data.mean has {len(config.mean)} values, the images of {config.name} have {channels} channels"
            )
        return config.mean, config.std
    if config.normalize == "none":
        return (0.0,) * channels, (1.0,) * channels
    if config.normalize == "imagenet":
        if channels != 3:
            raise UserError(f"data.normalize imagenet is for 3 channels, the images of {config.name} have {channels}")
        return IMAGENET
    if source.mean:
        return source.mean, source.std
    return statistics.of_files(raw.train, channels, source.central, config.image_size or source.size, config)

"""Division of the images of a folder tree into splits and classes, based on the names and contents of the folders.

A tree can be read by split lists (train.txt), by split folders (train/CLASS/) or by class folders (CLASS/). If two of
these are possible and give different results, the tree is refused and both are named: choosing one silently could train
on a different data set than the user expects.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

from distdl.core.errors import UserError
from distdl.core.text import name as shown
from distdl.data.storage import lists
from distdl.data.storage.archives import ARCHIVES, SHARD
from distdl.data.storage.lists import PRUNED, ListedImage
from distdl.data.storage.split_names import SYNONYMS, split_of, split_of_list
from distdl.data.storage.tree import Folder

MOST_SPLITS = 10
"""Maximum number of folders that can be splits; if there are more, they are classes."""
Parts = dict[str, list[ListedImage]]
"""Samples by split."""


def read(folder: Folder, notes: list[str]) -> Parts:
    """Divide the images of a tree into splits; the result has no "test" if nothing is named test.

    Args:
        notes: receives sentences about files that are left out.
    Raises:
        UserError: there are no images to train on, the tree is ambiguous, or a list is wrong.
    """
    archives = [name for name in folder.others if name.lower().endswith(ARCHIVES) or SHARD.search(name)]
    if archives:
        notes.append(
            f"archives in {folder.path} are left out, only its folders are read: {', '.join(map(shown, archives[:3]))}"
        )
    parts = _read(folder, notes)
    held_out = next(
        (name for name in archives if split_of(name.partition(".")[0]) in (("test", ()), ("validation", ()))), None
    )
    if held_out and parts.keys() == {"train"}:
        raise UserError(
            f"{Path(folder.path, held_out)} is named for a split that the folders next to it do not have, but is not "
            "read: unpack it, or move it elsewhere"
        )
    return parts


def _read(folder: Folder, notes: list[str]) -> Parts:
    if listed := _list_files(folder):
        return _by_lists(folder, listed, notes)
    if splits := _split_folders(folder):
        return _by_splits(folder, splits, notes)
    if inner := _wrapped(folder):
        notes.append(f"{inner.path} is read as the data set: it is the only folder with images in {folder.path}")
        _note_loose(folder, notes)
        return read(inner, notes)
    samples = _by_class(folder, notes)
    for inner in folder.below():
        _refuse_unnamed_splits(inner, "move them into train/ if they are classes, or rename them to train/ and test/")
    return {"train": samples}


def _named_like_splits(folder: Folder) -> dict[str, Folder]:
    """Return subfolders with images by the split that their name indicates.

    A name with other terms than FILLERS counts only if another split's name has the same terms: seg_train and seg_test,
    but not train_station.

    Raises:
        UserError: two subfolders with class folders are named for the same split.
    """
    named = [(child, *matches) for child in folder.occupied if (matches := split_of(child.name))]
    result: dict[str, Folder] = {}
    for child, split, rest in named:
        if rest and not any(other != split and terms == rest for _, other, terms in named):
            continue
        if split in result:
            if not (child.occupied or result[split].occupied):
                continue
            raise UserError(
                f"{folder.path} has {result[split].name}/ and {child.name}/, both named for {split}: rename or move one"
            )
        result[split] = child
    return result


def _split_folders(folder: Folder) -> dict[str, Folder]:
    """Return the split folders by split; empty if the subfolders are not splits.

    Raises:
        UserError: a subfolder can be a split or a class, or there are no images to train on.
    """
    named = _named_like_splits(folder)
    others = [child for child in folder.occupied if child not in named.values()]
    if not named:
        return {}
    names = _names(named.values())
    train = named.get("train")
    if not others:
        if train is None:
            raise UserError(
                f"{folder.path} has no images to train on, only {names}: put those into train/CLASS/, or name a folder "
                "of CLASS folders"
            )
        if not train.occupied:
            raise UserError(
                f"{folder.path} has no images to train on by class: {train.name}/ has images but no CLASS folders"
            )
        return named
    if train and train.occupied:
        classes = {child.name for child in _classes_of(train, set()).occupied}

        def has_its_classes(child: Folder) -> bool:
            return not classes.isdisjoint(inner.name for inner in _classes_of(child, classes).occupied)

        if rivals := [child for child in others if has_its_classes(child)]:
            raise UserError(
                f"{folder.path} has {_names(rivals)} with the classes of {train.name}/, but not named for a split: "
                "rename it to val or test, or move it elsewhere"
            )
        if len(classes) > 1 and any(has_its_classes(child) for split, child in named.items() if split != "train"):
            return named  # then the other folders are not classes: they are left out
    elif "test" not in named and not any(child.occupied for child in named.values()):
        return {}  # only a test split may lack class folders: these are classes themselves
    raise UserError(
        f"{folder.path} can be read in two ways: {names} as a split, or as a class next to {_names(others[:3])}; "
        "rename it if it is a class, or move the other folders into train/ if it is a split"
    )


def _classes_of(split: Folder, known: set[str]) -> Folder:
    """Return the folder with a split's class folders: itself, or a wrapper around all (seg_train/seg_train/CLASS).

    Args:
        known: classes of the training split, which are not wrappers; empty for the training split itself.
    """
    while len(split.occupied) == 1 and not split.images:
        (child,) = split.occupied
        if child.images or child.name in known or len(child.occupied) < (1 if known else 2):
            return split
        split = child
    return split


def _wrapped(folder: Folder) -> Folder | None:
    """Find the data set in a chain of single folders: the first one with lists, split folders or several classes.

    Raises:
        UserError: a folder of the chain has images too, so that it could be a class.
    """
    chain: list[Folder] = []
    while len(folder.occupied) == 1:
        (folder,) = folder.occupied
        chain.append(folder)
        if len(folder.occupied) > 1 or _list_files(folder) or _named_like_splits(folder):
            if mixed := next((link for link in chain if link.images), None):
                raise UserError(
                    f"{mixed.path} can be read in two ways: as one class, because it has images, or as a data set, "
                    "because it has folders of images; use its path as the data set, or move its images into folders"
                )
            return folder
    return None


def _by_splits(folder: Folder, splits: dict[str, Folder], notes: list[str]) -> Parts:
    _note_loose(folder, notes)
    for child in folder.folders:
        if child not in splits.values():
            why = "is not a split" if child.total else "has no images"
            notes.append(f"{child.path} {why}: it is left out of the data set")
    parts: Parts = {}
    known: set[str] = set()
    for split in ("train", "validation", "test"):
        if split not in splits:
            continue
        holder = _classes_of(splits[split], known)
        if holder is not splits[split]:
            notes.append(f"{holder.path} has the class folders of {splits[split].path}")
        if not holder.occupied:
            notes.append(f"{splits[split].path} has no class folders: it is left out")
            continue
        parts[split] = _by_class(holder, notes)
        known |= {label for _, label in parts[split]} if split == "train" else set()
    return parts


def _by_class(folder: Folder, notes: list[str]) -> list[ListedImage]:
    """Return the images below each class folder, in the order of their paths.

    Raises:
        UserError: a folder looks like a data set with its own splits.
    """
    if divided := next((inner for inner in folder.below() if _inner_splits(inner)), None):
        names = ", ".join(f"{shown(name)}/" for name in _inner_splits(divided))
        raise UserError(
            f"{divided.path} is divided into {names}, but is in the place of a class folder: use the path of the data "
            "set itself, put CLASS folders into train/ and test/, or rename folders that are not splits"
        )
    samples: list[ListedImage] = []
    nested: list[Folder] = []
    _note_loose(folder, notes)
    for child in folder.folders:
        if child.name.startswith(PRUNED):
            notes.append(f"{shown(child.name)} is left out: it is not a class")
            continue
        if not child.total:
            notes.append(f"class folder {child.path} has no images: the class is left out")
        if child.occupied:
            nested.append(child)
        samples += [(file, child.name) for file in child.files()]
    if nested:
        inside = ", ".join(f"{shown(child.name)}/{shown(child.occupied[0].name)}" for child in nested[:3])
        more = ", ..." if len(nested) > 3 else ""
        notes.append(f"images in subfolders of a class folder belong to the class: {inside}{more}")
    others = [name for inner in folder.below() for name in inner.others]
    if others:
        names = ", ".join(map(shown, others[:3])) + (f" and {len(others) - 3:,} more" if len(others) > 3 else "")
        notes.append(f"files of {folder.path} are left out, because they are not named like images: {names}")
    return samples


def _refuse_unnamed_splits(folder: Folder, advice: str) -> None:
    """Refuse folders that have the same subfolders: day/cat/, day/dog/, night/cat/, night/dog/.

    Raises:
        UserError: two subfolders, without images of their own, have two names of subfolders in common.
    """
    inner = [
        (child, {below.name for below in _classes_of(child, set()).occupied})
        for child in folder.occupied
        if not child.images
    ]
    for (first, names), (other, others) in itertools.combinations(inner, 2) if len(inner) <= MOST_SPLITS else ():
        if len(names & others) > 1:
            classes = ", ".join(f"{shown(name)}/" for name in sorted(names & others)[:3])
            raise UserError(
                f"{folder.path} can be read in two ways: {_names((first, other))} as classes, or as splits of classes "
                f"{classes}; {advice}"
            )


def _inner_splits(folder: Folder) -> list[str]:
    """Return names of subfolders that look like splits.

    Either one of them is named for a split and has class folders, or all are named for splits, at least two.
    """
    named = {child.name: matches[0] for child in folder.occupied if (matches := split_of(child.name))}
    with_classes = [child.name for child in folder.occupied if child.name in named and child.occupied]
    all_named = len(named) == len(folder.occupied) and len(set(named.values())) > 1
    return list(named) if with_classes or all_named else []


def _note_loose(folder: Folder, notes: list[str]) -> None:
    if folder.images:
        notes.append(
            f"{len(folder.images):,} images of {folder.path} are in no class folder ({shown(folder.images[0])} first): "
            "they are left out"
        )


def _list_files(folder: Folder) -> dict[str, str]:
    """Return names of split lists by split.

    Raises:
        UserError: two files are named for the same split.
    """
    matches: dict[str, str] = {}
    for name in folder.others:
        if (split := split_of_list(name)) is None:
            continue
        if split in matches:
            raise UserError(
                f"{folder.path} has {matches[split]} and {name}, both named for {split}: remove or rename one"
            )
        matches[split] = name
    return {split: matches[split] for split in SYNONYMS if split in matches}


def _by_lists(folder: Folder, files: dict[str, str], notes: list[str]) -> Parts:
    """Return samples by split lists, or by split folders if these exist and no list names a file.

    Raises:
        UserError: lists and split folders give different results, or a list is wrong.
    """
    top = Path(folder.path)
    bases = [top, *(Path(child.path) for child in folder.folders)]
    names = ", ".join(files.values())
    list_notes: list[str] = []
    try:
        splits = _split_folders(folder)
    except UserError:
        splits = {}
    if splits and not any(lists.names_files(top / name, bases) for name in files.values()):
        notes.append(f"{names} names no file of {folder.path}: its folders {_names(splits.values())} are the splits")
        return _by_splits(folder, splits, notes)
    if "train" not in files:
        raise UserError(f"{folder.path} has {names} but no train.txt: add it, or rename files that are not split lists")
    listed = {split: lists.read(top / name, bases, list_notes) for split, name in files.items()}
    for split, samples in listed.items():
        if not samples:
            purpose = {"train": "train", "validation": "validate", "test": "test"}[split]
            raise UserError(f"{top / files[split]} names no images: there are no images to {purpose} on")
    parts = _with_classes(top, listed)
    if splits:
        folder_notes: list[str] = []
        by_folders = _by_splits(folder, splits, folder_notes)
        if {split: sorted(rows) for split, rows in by_folders.items()} != {
            split: sorted(rows) for split, rows in parts.items()
        }:
            raise UserError(
                f"{folder.path} can be read in two ways: {_counts(parts)} by {names}, {_counts(by_folders)} by its "
                "folders; rename the lists if the folders are right, or the folders if the lists are"
            )
        list_notes += folder_notes
    notes += list_notes
    return parts


def _with_classes(top: Path, listed: dict[str, list[Path]]) -> Parts:
    """Return listed files with their classes, determined from a tree of the listed files only.

    Raises:
        UserError: a file is not in a class folder, or the tree is ambiguous.
    """
    examples = {file.parent: file for paths in listed.values() for file in paths}
    tree = Folder(str(top), top.name)
    for place in sorted(examples):
        folder = tree
        folder.total += 1
        for name in place.relative_to(top).parts:
            if not folder.folders or folder.folders[-1].name != name:
                folder.folders.append(Folder(f"{folder.path}/{name}", name))
            folder = folder.folders[-1]
            folder.total += 1
        folder.images.append(examples[place].name)
    labels = {
        Path(inner.path): child.name
        for holder in _class_holders(tree)
        for child in holder.folders
        for inner in child.below()
    }
    if bare := examples.keys() - labels.keys():
        name = shown(examples[min(bare)].relative_to(top))
        raise UserError(
            f"{top}: a list names {name}, which is not in a class folder: lists have CLASS/FILE on each line"
        )
    return {split: [(file, labels[file.parent]) for file in paths] for split, paths in listed.items()}


def _class_holders(folder: Folder) -> list[Folder]:
    """Return the folders that contain the class folders of listed files: a single one, or the split folders.

    Raises:
        UserError: the tree is ambiguous.
    """
    splits = _named_like_splits(folder)
    if not any(child.folders for child in splits.values()):
        splits = {}  # they have listed images and no class folders: they are classes
    elif len(splits) < len(folder.folders):
        splits = _split_folders(folder)
    if not splits:
        if len(folder.folders) == 1 and folder.folders[0].folders and not folder.images:
            return _class_holders(folder.folders[0])
        for inner in folder.below():
            _refuse_unnamed_splits(inner, "put all files of a class into one folder, and name those in the lists")
        return [folder]
    holders: list[Folder] = []
    for split in SYNONYMS:
        if split in splits:
            known = {child.name for holder in holders for child in holder.folders}
            holders.append(_classes_of(splits[split], known))
    return holders


def _counts(parts: Parts) -> str:
    return ", ".join(f"{split} {len(samples):,}" for split, samples in parts.items())


def _names(folders: Iterable[Folder]) -> str:
    return ", ".join(f"{shown(folder.name)}/" for folder in folders)

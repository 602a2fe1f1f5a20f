"""Terms in the names of files and folders that indicate a split; for folders, lists, shards, records and archives."""

import re
from pathlib import PurePath

SYNONYMS = {
    "train": {"train", "training"},
    "validation": {"val", "valid", "validation", "validate", "vali", "dev"},
    "test": {"test", "testing"},
}
"""Names of a split, in lower case."""
FILLERS = {"set", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "pictures", "split", "folder"}
"""Terms that may be combined with a split's name: train_images, TestSet, trainset."""
LISTS = {"list", "lists", "file", "files", "filelist", "names"}
"""Additional terms in the name of a split list: train_list.txt."""
COMPOUNDS = {name + filler: name for names in SYNONYMS.values() for name in names for filler in FILLERS | LISTS}
"""Compounds of a split's name and a filler."""


def terms_of(name: str) -> list[str]:
    """Split a name into terms, in lower case: SegTrain and seg_trainset1 are both ["seg", "train"]."""
    parts: list[str] = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+", name)
    return [COMPOUNDS.get(part.lower(), part.lower()) for part in parts]


def splits_of(name: str) -> list[str]:
    """Return the splits that a name indicates, in the order of SYNONYMS."""
    terms = set(terms_of(name))
    return [split for split, synonyms in SYNONYMS.items() if terms & synonyms]


def split_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the split that a name indicates and its other terms: seg_train is ("train", ("seg",)).

    None if it indicates no split or several.
    """
    splits = splits_of(name)
    if len(splits) != 1:
        return None
    return splits[0], tuple(term for term in terms_of(name) if term not in FILLERS | SYNONYMS[splits[0]])


def split_of_list(name: str) -> str | None:
    """Return the split of a split list by its name (train.txt, test_list.TXT); None if it is not a list."""
    path = PurePath(name)
    matches = split_of(path.stem)
    return matches[0] if path.suffix.lower() == ".txt" and matches and LISTS.issuperset(matches[1]) else None

"""The words by which files and folders name a split: one table for folders, lists, shards, records and archives."""

import re
from pathlib import PurePath

SYNONYMS = {
    "train": {"train", "training"},
    "validation": {"val", "valid", "validation", "validate", "vali", "dev"},
    "test": {"test", "testing"},
}
"""Names of a split, in lower case."""
FILLERS = {"set", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "pictures", "split", "folder"}
"""Words that may stand beside a split's name: train_images, TestSet, trainset."""
LISTS = {"list", "lists", "file", "files", "filelist", "names"}
"""Further words in the name of a split list: train_list.txt."""
COMPOUNDS = {name + filler: name for names in SYNONYMS.values() for name in names for filler in FILLERS | LISTS}
"""Words that are a split's name and a filler."""


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: SegTrain and seg_trainset1 are both ["seg", "train"]."""
    parts: list[str] = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+", name)
    return [COMPOUNDS.get(part.lower(), part.lower()) for part in parts]


def splits_of(name: str) -> list[str]:
    """The splits that a name names, in the order of SYNONYMS."""
    words = set(words_of(name))
    return [split for split, synonyms in SYNONYMS.items() if words & synonyms]


def split_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The one split that a name names and its other words: seg_train is ("train", ("seg",)). Else None."""
    splits = splits_of(name)
    if len(splits) != 1:
        return None
    return splits[0], tuple(word for word in words_of(name) if word not in FILLERS | SYNONYMS[splits[0]])


def split_of_list(name: str) -> str | None:
    """The split that a text file is a list of, by its name (train.txt, test_list.TXT), else None."""
    path = PurePath(name)
    found = split_of(path.stem)
    return found[0] if path.suffix.lower() == ".txt" and found and LISTS.issuperset(found[1]) else None

"""Domains of the Visual Decathlon: their folders and layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.data.dataset import Raw, ResidentSplit
from distdl.data.sets import decathlon
from distdl.data.sets.catalog import SETS
from distdl.data.sets.decathlon import DOMAINS, SIZE


def test_the_challenge_has_ten_domains() -> None:
    assert len({domain.folder for domain in DOMAINS}) == len({domain.title for domain in DOMAINS}) == 10
    assert all(domain.name == f"decathlon-{domain.folder}" for domain in DOMAINS)
    # Table 1 of Rebuffi et al. 2017: classes of all domains together, without the background of pedestrians.
    assert sum(domain.classes for domain in DOMAINS) == 3128
    assert all(50 < domain.baseline < 100 for domain in DOMAINS)


def test_the_original_set_of_a_domain_exists_and_has_its_classes() -> None:
    for domain in DOMAINS:
        if domain.original:
            known = SETS[domain.original].classes
            # The flowers set has 5 classes in its distributor's layout; omniglot's classes are counted when it is read.
            assert known in (0, domain.classes) or domain.original == "flowers"


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.folder)
def test_the_challenges_folders_are_searched_first(domain: decathlon.Domain) -> None:
    source = SETS[domain.name]
    own_folders = SETS[domain.original].folders if domain.original else ()
    assert source.folders == (f"decathlon-1.0/{domain.folder}", f"decathlon/{domain.folder}", *own_folders)
    assert (source.size, source.channels, source.mean) == (SIZE, 3, ())


def challenge_layout(folder: Path) -> None:
    for part in ("train", "val"):
        for name in ("0001", "0002"):
            (folder / part / name).mkdir(parents=True)
            Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / part / name / "a.png")


def test_the_original_sets_reader_reads_folders_without_train(tmp_path: Path) -> None:
    split = ResidentSplit(labels=np.zeros(1, np.int64), images=np.zeros((1, 2, 2, 3), np.uint8))
    own_raw = Raw(train=split, test=split, classes=("own",))
    read = decathlon.reader(lambda folder, config: own_raw)
    assert read(tmp_path, DataConfig()) is own_raw
    challenge_layout(tmp_path)
    raw = read(tmp_path, DataConfig())
    assert raw.classes == ("0001", "0002") and (len(raw.train), len(raw.test)) == (2, 2)


def test_a_domain_without_an_original_set_is_read_as_folders(tmp_path: Path) -> None:
    challenge_layout(tmp_path)
    assert decathlon.reader(None)(tmp_path, DataConfig()).classes == ("0001", "0002")

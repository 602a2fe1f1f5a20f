"""The table of data sets."""

import re
from pathlib import Path

import numpy as np
import pytest

from distdl.core.config import DataConfig
from distdl.data.sets.catalog import CENTRAL_CROP, IDX_FILES, SETS, names
from distdl.data.sets.decathlon import DOMAINS


def test_the_table_is_valid() -> None:
    for name, source in SETS.items():
        assert len(source.mean) == len(source.std) in (0, source.channels), name
        assert source.folders or name in ("digits", "synthetic"), name


def test_names_include_all_sets_and_decathlon_domains() -> None:
    assert names() == list(SETS) and {domain.name for domain in DOMAINS} < set(names())
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names())


@pytest.mark.parametrize("name", SETS)
def test_the_entry_of_a_set_is_consistent(name: str) -> None:
    source = SETS[name]
    assert source.text and "\n" not in source.text
    assert source.size > 0 and source.channels in (1, 3) and 0 < source.central <= 1
    assert all(0 < value < 1 for value in (*source.mean, *source.std))
    assert len(source.images) in (0, 2) and all(count > 0 for count in source.images)
    assert bool(source.origin) != bool(source.folders), "a set either needs no files or has a list of folders"
    for url, md5 in source.files:
        assert source.folders and re.fullmatch(r"https?://\S+/[\w.-]+", url) and re.fullmatch(r"[0-9a-f]{32}", md5)


def test_no_two_sets_share_a_folder() -> None:
    """A domain of the decathlon may be in the folder of its original set."""
    known = [folder for name, source in SETS.items() if not name.startswith("decathlon-") for folder in source.folders]
    assert len(known) == len(set(known))


def test_checksums_belong_to_their_files() -> None:
    for name in ("mnist", "fashion-mnist"):
        urls = [url for url, _ in SETS[name].files]
        assert [Path(url).name for url in urls] == [f"{file}-ubyte.gz" for file in IDX_FILES]
        assert len({md5 for _, md5 in SETS[name].files}) == 4


def test_photographs_use_the_central_224_of_256_pixels() -> None:
    assert CENTRAL_CROP * 256 == 224
    assert {name for name, source in SETS.items() if source.central != 1} == {"caltech101", "flowers", "dtd"}


def test_synthetic_images_have_imagenets_shape_and_use_no_memory() -> None:
    raw = SETS["synthetic"].read(Path("nowhere"), DataConfig())
    assert raw.train.images.shape == (51_200, 224, 224, 3) and raw.train.images.base.nbytes < 16
    assert len(raw.test) == 1000 and len(raw.classes) == SETS["synthetic"].classes == 1000
    assert (np.bincount(raw.test.labels, minlength=1000) == 1).all()

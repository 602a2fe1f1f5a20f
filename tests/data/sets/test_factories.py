"""Data sets from other packages."""

from pathlib import Path

import numpy as np
import pytest

from distdl.core.config import Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.dataset import EncodedSplit
from distdl.data.loaders import make_loader
from distdl.data.sets import relabel
from distdl.data.sets.load import load, source_of
from distdl.runtime.world import World
from numbered_sets import numbered

STRIPES, FOLDER = "user_datasets:stripes", "user_datasets:folder"


def test_a_factory_receives_settings_and_returns_the_set() -> None:
    dataset = load(DataConfig(name=STRIPES), {"count": "40"})
    assert dataset.name == STRIPES and dataset.classes == ("horizontal", "vertical")
    assert (len(dataset.train), len(dataset.test), dataset.channels, dataset.image_size) == (30, 10, 1, 8)
    assert (dataset.mean, dataset.std) == ((0.5,), (0.3,))


def test_a_set_without_a_summary_is_described_by_its_factory() -> None:
    assert source_of(STRIPES).text == f"returned by {STRIPES}"


def test_a_factory_receives_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    numbered("files", 5, tmp_path / "pictures")
    config = Config(data=DataConfig(name=FOLDER, root=tmp_path, loader="torch", workers=0, batch_size=2))
    dataset = load(config.data, {"name": "pictures"})
    assert isinstance(dataset.train, EncodedSplit) and len(dataset.train) == 5
    assert (dataset.mean, dataset.std) == ((0.5,) * 3, (0.5,) * 3)
    loader = make_loader(config, dataset, dataset.train, World(), training=True)
    assert sorted(label for batch in loader.epoch(0) for label in batch.labels.tolist()) == list(range(5))
    loader.close()


def test_validation_and_limit_apply(tmp_path: Path) -> None:
    divided = load(DataConfig(name=STRIPES, validation=0.2, limit=20))
    assert divided.validation is not None
    assert len(divided.validation) == 9 and np.bincount(divided.train.labels).tolist() == [10, 10]
    relabel.write(tmp_path / "labels.npz", np.array([3, 4, 4]), np.array([0, 1, 1]))
    assert load(DataConfig(name=STRIPES, labels=tmp_path / "labels.npz")).train.labels.tolist() == [0, 1, 1]
    assert load(DataConfig(name=STRIPES, normalize="none")).std == (1.0,)
    assert load(DataConfig(name=STRIPES, mean=(0.1,), std=(0.2,))).mean == (0.1,)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_module:stripes", {}, "cannot import no_such_module:stripes"),
        (STRIPES, {"size": "large"}, "options.dataset.size"),
        (STRIPES, {"sise": 3}, 'stripes has no setting .*"size"'),
        (FOLDER, {}, "options.dataset.name is missing"),
        ("user_datasets:wrong", {}, "returned a dict; expected a DataSet"),
        (
            "user_datasets:wrong_images",
            {},
            r"train.images = an ndarray .* float32; expected an array \[4, H, W, 1\] of uint8",
        ),
    ],
)
def test_a_wrong_factory_or_setting_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(DataConfig(name=name), options)

"""Augmentations from other packages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.augment import extra
from distdl.data.loaders import make_loader
from distdl.data.loaders.base import Loader
from distdl.runtime.world import World
from numbered_sets import numbered

SHADE, INVERT = "user_augmentations:Shade", "user_augmentations:invert"
LOADERS = ["resident", "torch", "dali"]


def config_of(loader: str, *names: str, **options: dict[str, object]) -> Config:
    augment = AugmentConfig(flip=0.5, rotation=9, extra=names)
    data = DataConfig(loader=loader, workers=0, batch_size=4, augment=augment)
    return Config(seed=3, data=data, options=options)


def images_of(
    config: Config, folder: Path, kind: str, start: int = 0, rank: int = 0, world: int = 1
) -> dict[int, torch.Tensor]:
    """Images of all samples after the first `start`, by label."""
    dataset = numbered(kind, 31, folder)
    loader = make_loader(config, dataset, dataset.train, World(rank=rank, size=world), training=True)
    return by_label(loader, 2, start)


def by_label(loader: Loader, epoch: int, start: int = 0) -> dict[int, torch.Tensor]:
    images: dict[int, torch.Tensor] = {}
    for batch in loader.epoch(epoch, start):
        images |= dict(zip(batch.labels.tolist(), batch.images.clone(), strict=True))
    loader.close()
    return images


def same(first: dict[int, torch.Tensor], second: dict[int, torch.Tensor]) -> bool:
    return all(torch.allclose(image, first[label], atol=1e-5) for label, image in second.items())


def test_random_numbers_depend_on_seed_epoch_sample_and_name() -> None:
    shade, invert = extra.make(config_of("torch", SHADE, INVERT))
    indices = np.arange(5000)
    numbers = shade.draw(3, 2, indices)
    assert numbers.shape == (5000, 2) and numbers.dtype == np.float32
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.02
    assert np.array_equal(shade.draw(3, 2, indices[[17, 3]]), numbers[[17, 3]])
    assert invert.draw(3, 2, indices).shape == (5000, 1)
    for other in (invert.draw(3, 2, indices), shade.draw(3, 3, indices), shade.draw(4, 2, indices)):
        assert abs(np.corrcoef(numbers[:, 0], other[:, 0])[0, 1]) < 0.06


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_results_do_not_depend_on_loader_ranks_or_a_resume(kind: str, tmp_path: Path) -> None:
    options = {SHADE: {"strength": 0.9}}
    changed = images_of(config_of("torch", SHADE, INVERT, **options), tmp_path, kind)
    assert sorted(changed) == list(range(31))
    plain = images_of(config_of("torch"), tmp_path, kind)
    assert not same(plain, changed)
    for loader in LOADERS if kind == "files" else LOADERS[:2]:
        if loader == "dali":
            pytest.importorskip("nvidia.dali")
        config = config_of(loader, SHADE, INVERT, **options)
        assert same(changed, images_of(config, tmp_path, kind))
        tail = images_of(config, tmp_path, kind, start=12)
        assert len(tail) == 19 and same(changed, tail)
        assert all(same(changed, images_of(config, tmp_path, kind, rank=rank, world=3)) for rank in range(3))


def test_augmentations_apply_in_training_only(tmp_path: Path) -> None:
    config = config_of("resident", INVERT, **{INVERT: {"below": 1.0}})
    config = replace(config, data=replace(config.data, augment=AugmentConfig(extra=(INVERT,))))
    dataset = numbered("memory", 31, tmp_path)
    training, evaluation = (
        make_loader(config, dataset, dataset.train, World(), training=training) for training in (True, False)
    )
    originals = {
        label: image for b in evaluation.epoch(0) for label, image in zip(b.labels.tolist(), b.images, strict=True)
    }
    for batch in training.epoch(0):
        for label, image in zip(batch.labels.tolist(), batch.images, strict=True):
            # Normalized pixels are (x - 0.5) / 0.25: those of 1 - x are their negatives.
            assert torch.allclose(image, -originals[label], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("flip", {}, "flip is built in, set data.augment.flip"),
        (SHADE, {SHADE: {"strenght": 1}}, "Shade has no setting"),
        (SHADE, {SHADE: {"strength": "much"}}, "strength"),
        ("user_augmentations:halve", {}, "halve returned a Tensor .*; expected images of the same shape"),
    ],
)
def test_an_invalid_augmentation_is_refused(name: str, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        images_of(config_of("torch", name, **options), tmp_path, "memory")

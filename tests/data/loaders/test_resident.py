"""Loader resident: the data set in memory, augmented by indexing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.loaders import resident as module
from distdl.data.loaders.resident import ResidentLoader
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from numbered_sets import numbered
from small_loaders import config_of, loader_of


def resident(
    folder: Path, kind: str = "memory", *, training: bool = True, bad: tuple[int, ...] = (), **data: object
) -> ResidentLoader:
    dataset = numbered(kind, 9, folder)
    for number in bad:
        dataset.train.files[number].write_text("no image")
    config = Config(seed=3, data=DataConfig(**{"batch_size": 4, **data}))
    spec = LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=World(), training=training)
    return ResidentLoader(spec, "asked for")


def normalized(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((images / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2)


@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_images_are_shifted_and_flipped_by_their_parameters(crop: int, flip: float, tmp_path: Path) -> None:
    """The expected images are padded, cropped and flipped with numpy."""
    loader = resident(tmp_path, augment=AugmentConfig(flip=flip, crop=crop))
    source = loader.spec.split.images
    for batch in loader.epoch(1):
        draws = loader.spec.draw(1, batch.indices)
        for row, index in enumerate(batch.indices):
            image = np.pad(source[index], ((crop, crop), (crop, crop), (0, 0)))
            top, left_edge = draws["shift"][row] if crop else (0, 0)
            image = image[top : top + 24, left_edge : left_edge + 24]
            image = image[:, ::-1] if flip and draws["flip"][row] else image
            assert torch.allclose(batch.images[row], normalized(image[None])[0], atol=1e-5)


def test_evaluation_does_not_augment(tmp_path: Path) -> None:
    loader = resident(tmp_path, training=False, augment=AugmentConfig(flip=1.0, crop=3))
    images = torch.cat([batch.images for batch in loader.epoch(0)])
    assert torch.allclose(images, normalized(loader.spec.split.images), atol=1e-5)
    assert len(loader.images) == 9, "no mirror images are kept"


@pytest.mark.parametrize("at_once", [1, 2, 99])
def test_steps_prepared_together_equal_steps_prepared_singly(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES", at_once * 4 * 4 * 3 * 24 * 24)
    loader = resident(tmp_path)
    assert loader.group == at_once
    batches = list(loader.epoch(0))
    assert [batch.count for batch in batches] == [step.count for step in loader.spec.steps(0)] == [4, 3, 2]
    for batch in batches:
        assert torch.allclose(batch.images, normalized(loader.spec.split.images[batch.indices]), atol=1e-5)
        assert batch.labels.tolist() == batch.indices.tolist()


def test_mixing_uses_images_of_the_same_batch_only(tmp_path: Path) -> None:
    assert resident(tmp_path, augment=AugmentConfig(mixup=0.2)).group == 1
    assert resident(tmp_path, augment=AugmentConfig(rotation=10)).group == 1
    assert resident(tmp_path).group > 1


class TestUnreadable:
    def test_on_error_raise_ends_the_run(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"005\.jpg"):
            resident(tmp_path, "files", bad=(5,))

    def test_training_uses_the_next_sample(self, tmp_path: Path) -> None:
        loader = resident(tmp_path, "files", bad=(5,), on_error="skip")
        labels = [label for batch in loader.epoch(0) for label in batch.labels.tolist()]
        assert sorted(labels) == [0, 1, 2, 3, 4, 6, 6, 7, 8] and len(loader.skipped) == 1

    def test_evaluation_omits_the_sample(self, tmp_path: Path) -> None:
        loader = resident(tmp_path, "files", training=False, bad=(1, 8), on_error="skip")
        batches = list(loader.epoch(0))  # of eight, and of one
        assert [(batch.count, batch.total) for batch in batches] == [(7, 8), (0, 1)]
        assert batches[0].indices.tolist() == [0, 2, 3, 4, 5, 6, 7] == batches[0].labels.tolist()[:7]
        assert batches[1].indices.tolist() == [] and len(batches[1].images) == 1
        assert len(loader.skipped) == 2

    def test_pixels_stay_with_their_labels(self, tmp_path: Path) -> None:
        """Unreadable samples are moved to the end of a decoded chunk, and back to their position afterwards."""
        complete = resident(tmp_path, "files", training=False)
        partly = resident(tmp_path, "files", training=False, bad=(1,), on_error="skip")
        (first,) = (batch for batch in partly.epoch(0) if 8 not in batch.indices)
        expected = torch.cat([batch.images for batch in complete.epoch(0)])
        assert torch.equal(first.images[: first.count], expected[torch.from_numpy(first.indices)])


def test_an_epoch_without_a_step_ends(tmp_path: Path) -> None:
    loader = resident(tmp_path)
    assert list(loader.epoch(0, start=9)) == []


def test_close_releases_the_images(tmp_path: Path) -> None:
    loader = resident(tmp_path)
    loader.close()
    assert loader.images.numel() == loader.labels.numel() == 0


def test_random_windows_of_files_are_refused(tmp_path: Path) -> None:
    config = config_of("resident", augment=AugmentConfig(random_resized_crop=True))
    with pytest.raises(UserError, match="random_resized_crop"):
        loader_of(config, numbered("files", 9, tmp_path))

"""Samples by index: pixels, slots, and the handling of unreadable files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.augment.crops import central_window
from distdl.data.files import read
from distdl.data.loaders import samples as module
from distdl.data.loaders.samples import Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.storage import decode
from distdl.runtime.world import World
from numbered_sets import numbered

N = 6


def samples_of(
    folder: Path, kind: str = "files", *, training: bool = True, bad: tuple[int, ...] = (), **data: object
) -> Samples:
    """Samples of a set of six files, of which those in `bad` are not images."""
    dataset = numbered(kind, N, folder)
    for number in bad:
        dataset.train.files[number].write_text("no image")
    config = Config(seed=3, data=DataConfig(**data))
    spec = LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=World(), training=training)
    return Samples(spec)


def pixels(samples: Samples, index: int) -> torch.Tensor:
    """Pixels of the central square of a file, cropped and resized by Pillow."""
    with Image.open(samples.files[index]) as image:
        edge = (image.width - image.height) // 2
        square = image.crop((edge, 0, edge + image.height, image.height))
        return torch.from_numpy(np.array(square.resize((24, 24), Image.Resampling.BILINEAR)))


def test_files_are_decoded_in_the_order_of_the_indices(tmp_path: Path) -> None:
    samples = samples_of(tmp_path)
    chunk = samples[0, np.array([4, 0, 4])]
    assert (chunk.indices.tolist(), chunk.readable, chunk.error, chunk.skipped) == ([4, 0, 4], 3, "", {})
    assert chunk.images.shape == (3, 24, 24, 3) and chunk.images.dtype == torch.uint8
    for image, index in zip(chunk.images, (4, 0, 4), strict=True):
        assert (image.int() - pixels(samples, index).int()).abs().max() <= 2


def test_images_in_memory_are_indexed(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, "memory", augment=AugmentConfig(flip=0.5))
    chunk = samples[2, np.array([5, 1])]
    assert (chunk.images.numpy() == samples.spec.split.images[[5, 1]]).all()
    assert chunk.params["flip"].tolist() == samples.spec.draw(2, np.array([5, 1]))["flip"].tolist()


def test_a_slot_receives_the_images(tmp_path: Path) -> None:
    samples = samples_of(tmp_path)
    samples.slots = torch.full((3, 4, 24, 24, 3), 7, dtype=torch.uint8)
    chunk = samples[0, np.array([1, 2]), 2]
    assert chunk.images == 2, "the slot's number is sent instead of the images"
    samples.slots, slots = None, samples.slots
    assert torch.equal(slots[2, :2], samples[0, np.array([1, 2])].images)
    assert (slots[2, 2:] == 7).all() and (slots[:2] == 7).all()


def test_random_windows_depend_on_seed_epoch_and_sample(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, augment=AugmentConfig(random_resized_crop=True))
    together, alone = samples[1, np.array([2, 3])].images, samples[1, np.array([3])].images
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(samples[2, np.array([3])].images, alone)
    evaluated = samples_of(tmp_path, training=False, augment=AugmentConfig(random_resized_crop=True))
    assert torch.equal(evaluated[1, np.array([3])].images, evaluated[2, np.array([3])].images)


class TestUnreadable:
    def test_on_error_raise_names_the_file_and_the_option(self, tmp_path: Path) -> None:
        chunk = samples_of(tmp_path, bad=(3,))[0, np.array([1, 3, 5])]
        assert "003.jpg" in chunk.error and chunk.error.endswith("(--data.on-error skip continues without it)")
        assert chunk.indices.tolist() == [1, 3, 5]

    def test_training_uses_the_next_readable_file(self, tmp_path: Path) -> None:
        samples = samples_of(tmp_path, bad=(2, 3), on_error="skip")
        chunk = samples[0, np.array([1, 2, 3])]
        assert (chunk.indices.tolist(), chunk.readable, chunk.error) == ([1, 4, 4], 3, "")
        assert torch.equal(chunk.images[1], chunk.images[2])
        assert chunk.skipped.keys() == {2, 3}
        for number in (2, 3):
            assert f"00{number}.jpg" in chunk.skipped[number]
            assert chunk.skipped[number].endswith("004.jpg is used instead")

    def test_the_first_file_replaces_an_unreadable_last_file(self, tmp_path: Path) -> None:
        chunk = samples_of(tmp_path, bad=(N - 1, 0), on_error="skip")[0, np.array([N - 1])]
        assert chunk.indices.tolist() == [1] and chunk.skipped.keys() == {N - 1, 0}

    def test_evaluation_moves_unreadable_samples_to_the_end_as_black_images(self, tmp_path: Path) -> None:
        samples = samples_of(tmp_path, training=False, bad=(0, 3), on_error="skip")
        samples.slots = torch.full((1, 4, 24, 24, 3), 7, dtype=torch.uint8)
        chunk = samples[0, np.array([0, 1, 3, 4]), 0]
        assert (chunk.indices.tolist(), chunk.readable) == ([1, 4, 0, 3], 2)
        assert (samples.slots[0, 2:] == 0).all() and samples.slots[0, :2].any()
        assert all(text.endswith("; left out of the evaluation") for text in chunk.skipped.values())

    @pytest.mark.parametrize(("limit", "taken"), [(2, None), (3, 3)])
    def test_too_many_consecutive_bad_files_end_the_run(
        self, limit: int, taken: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_CONSECUTIVE_UNREADABLE", limit)
        chunk = samples_of(tmp_path, bad=(1, 2), on_error="skip")[0, np.array([1])]
        if taken is None:
            assert (
                chunk.error.startswith("2 consecutive files cannot be read; the first error: ")
                and "001.jpg" in chunk.error
            )
        else:
            assert chunk.indices.tolist() == [taken] and not chunk.error

    def test_without_a_readable_file_each_file_is_tried_once(self, tmp_path: Path) -> None:
        chunk = samples_of(tmp_path, bad=tuple(range(N)), on_error="skip")[0, np.array([2])]
        assert chunk.error.startswith(f"{N} consecutive files cannot be read; the first error: ")

    def test_an_image_above_max_pixels_is_unreadable(self, tmp_path: Path) -> None:
        chunk = samples_of(tmp_path, max_pixels=30 * 40 - 1)[0, np.array([0])]
        assert "000.jpg" in chunk.error
        assert not samples_of(tmp_path, max_pixels=30 * 40)[0, np.array([0])].error


def test_gather_passes_file_and_window(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, training=False)
    chunk = samples.gather(0, np.array([3, 1]), lambda file, window: (file.name, window(30, 40)))
    assert chunk.images == [("003.jpg", central_window(30, 40, 1.0)), ("001.jpg", (0, 5, 30, 30))]


def test_a_user_error_ends_the_chunk(tmp_path: Path) -> None:
    def load(file: Path, window: decode.WindowOf) -> None:
        read(file)
        raise UserError("a reason")

    assert samples_of(tmp_path).gather(0, np.array([0]), load).error == "a reason"

"""Image changes are compared with torchvision's, and random parameters with their expected distributions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torchvision.transforms.v2 import functional as reference

from distdl.core.config import AugmentConfig
from distdl.data.augment import color
from distdl.data.augment import random_params as augment

N = 4000
INDICES = np.arange(N)


def byte_images(b: int = 6, height: int = 12, width: int = 12, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (b, height, width, channels), dtype=torch.uint8, generator=generator)


def float_images(b: int = 6, height: int = 12, width: int = 12, channels: int = 3) -> torch.Tensor:
    return byte_images(b, height, width, channels).permute(0, 3, 1, 2).float() / 255


def params(**settings: float) -> dict[str, np.ndarray]:
    return augment.draw(AugmentConfig(**settings), 5, 2, INDICES, (12, 12))


def test_disabled_changes_have_no_parameters() -> None:
    assert params() == {}


@pytest.mark.parametrize("channels", [1, 3])
def test_cut_pads_crops_and_flips(channels: int) -> None:
    images = byte_images(channels=channels)
    shift = torch.tensor([[0, 0], [4, 4], [2, 2], [1, 3], [3, 0], [0, 4]])
    flip = torch.tensor([False, True, True, False, True, False])
    index = torch.tensor([5, 0, 0, 3, 2, 1])
    actual = augment.cut(augment.pad(images, 2), index, (12, 12), shift, flip)
    for cut, source, (row, column), mirrored in zip(actual, index, shift.tolist(), flip, strict=True):
        image = reference.crop(reference.pad(images[source].permute(2, 0, 1), [2]), row, column, 12, 12)
        expected = reference.horizontal_flip(image) if mirrored else image
        assert torch.equal(cut.permute(2, 0, 1), expected)


@pytest.mark.parametrize("flip", [None, torch.tensor([False, True] * 3)])
def test_cut_is_the_same_on_gpu_and_cpu(flip: torch.Tensor | None) -> None:
    images, shift = augment.pad(byte_images(), 2), torch.tensor([[0, 0], [4, 4], [2, 1], [1, 3], [3, 0], [0, 4]])
    actual = [
        cut(images, torch.arange(6), (12, 12), shift, flip) for cut in (augment._cut_indexed, augment._cut_strided)
    ]
    assert torch.equal(*actual)


def test_shifts_and_flips_are_uniform() -> None:
    numbers = params(crop=2, flip=0.3)
    for column in numbers["shift"].T:
        assert stats.chisquare(np.bincount(column, minlength=5)).pvalue > 1e-4
    assert stats.binomtest(int(numbers["flip"].sum()), N, 0.3).pvalue > 1e-4


@pytest.mark.parametrize("degrees", [-170.0, -20.0, 0.0, 11.5, 90.0])
@pytest.mark.parametrize("shape", [(12, 12), (9, 14)])
def test_rotation_matches_torchvision(degrees: float, shape: tuple[int, int]) -> None:
    images = float_images(2, *shape)
    actual = augment.rotate(images, torch.full((2,), degrees))
    expected = reference.rotate(images, degrees, interpolation=reference.InterpolationMode.BILINEAR)
    assert torch.allclose(actual, expected, atol=1e-4)


def test_nonzero_angles_are_uniform() -> None:
    angle = params(rotation=20, rotation_probability=0.4)["angle"]
    assert stats.binomtest(int((angle != 0).sum()), N, 0.4).pvalue > 1e-4
    assert stats.kstest(angle[angle != 0], "uniform", (-20, 40)).pvalue > 1e-4


@pytest.mark.parametrize("channels", [1, 3])
def test_color_changes_match_torchvision(channels: int) -> None:
    images = float_images(channels=channels)
    images[0, :, :4] = 0.5  # gray pixels have no hue
    images[1, :, :4] = 0.0
    factors = torch.tensor([0.6, 0.9, 1.0, 1.2, 1.4, 0.7])
    changes = [
        (color.adjust_brightness, reference.adjust_brightness),
        (color.adjust_contrast, reference.adjust_contrast),
    ]
    if channels == 3:
        changes.append((color.adjust_saturation, reference.adjust_saturation))
        changes.append((lambda i, f: color.adjust_hue(i, f - 1), lambda i, f: reference.adjust_hue(i, f - 1)))
    for actual, reference_change in changes:
        expected = torch.stack(
            [reference_change(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)]
        )
        assert torch.allclose(actual(images, factors), expected, atol=1e-5)


def test_jitter_factors_are_neutral_or_uniform() -> None:
    factors = params(color_jitter=0.5)["jitter"]
    on = (factors != (1, 1, 1, 0)).any(1)
    assert stats.binomtest(int(on.sum()), N, 0.5).pvalue > 1e-4
    for column, (low, width) in zip(factors[on].T, [(0.6, 0.8)] * 3 + [(-0.1, 0.2)], strict=True):
        assert stats.kstest(column, "uniform", (low, width)).pvalue > 1e-4
    images = float_images()
    neutral = torch.tensor([[1.0, 1, 1, 0]]).expand(6, 4)
    assert torch.allclose(color.jitter(images, neutral), images, atol=1e-6)


@pytest.mark.parametrize("window", [(0, 0, 12, 12), (3, 2, 6, 6), (0, 4, 3, 8), (5, 5, 1, 1)])
def test_the_window_of_a_small_image_matches_a_resized_crop(window: tuple[int, int, int, int]) -> None:
    smooth = F.interpolate(float_images(1, 3, 3), (12, 12), mode="bilinear")
    actual = augment.cut_windows(smooth, torch.tensor([window]), 16)
    row, column, tall, wide = window
    expected = reference.resized_crop(smooth, row, column, tall, wide, [16, 16], antialias=False)
    # At the edge of a window distdl reads the adjacent pixel, and torchvision repeats the edge.
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert torch.allclose(actual[inner], expected[inner], atol=0.02 if min(tall, wide) > 1 else 0.2)
    if window == (0, 0, 12, 12):
        assert torch.allclose(actual, expected, atol=1e-5)


def test_mixup_blends_with_the_previous_image() -> None:
    images, labels = float_images(3), torch.tensor([0, 1, 2])
    parameters = torch.tensor([[0, 0.25, 0, 0], [0, 1.0, 0, 0], [0, 0.5, 0, 0]])
    mixed, soft = augment.mix(images, labels, parameters, 4)
    assert torch.allclose(mixed[0], 0.25 * images[0] + 0.75 * images[2])
    assert torch.allclose(mixed[1], images[1])
    assert torch.allclose(soft, torch.tensor([[0.25, 0, 0.75, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0]]))


def test_cutmix_replaces_a_box_and_its_share_of_the_label() -> None:
    images, labels = float_images(2, 20, 20), torch.tensor([0, 1])
    # A quarter of the area: a box of 10 x 10 pixels; in the second image half of it is outside.
    mixed, soft = augment.mix(images, labels, torch.tensor([[1, 0.75, 0.5, 0.5], [1, 0.75, 0.0, 0.5]]), 2)
    box = (slice(None), slice(5, 15), slice(5, 15))
    assert torch.equal(mixed[0][box], images[1][box])
    changed = (mixed[0] != images[0]).any(0)
    changed[5:15, 5:15] = False
    assert not changed.any()
    assert torch.allclose(soft, torch.tensor([[0.75, 0.25], [0.125, 0.875]]))


@pytest.mark.parametrize(("settings", "alpha", "boxed"), [({"mixup": 0.2}, 0.2, 0.0), ({"cutmix": 1.0}, 1.0, 1.0)])
def test_mixing_shares_are_beta_distributed(settings: dict[str, float], alpha: float, boxed: float) -> None:
    mix = params(**settings)["mix"]
    assert (mix[:, 0] == boxed).all()
    assert stats.kstest(mix[:, 1], "beta", (alpha, alpha)).pvalue > 1e-4


def test_half_of_the_samples_get_mixup_and_half_cutmix() -> None:
    boxed = params(mixup=0.2, cutmix=1.0)["mix"][:, 0]
    assert stats.binomtest(int(boxed.sum()), N, 0.5).pvalue > 1e-4


@pytest.mark.parametrize("size", [24, 21])
def test_ten_crops_match_torchvision(size: int) -> None:
    images = float_images(2, 24, 24)
    expected = torch.stack(reference.ten_crop(images, [size, size]), 1)
    # The order of crops is the same: torchvision also flips the image before it crops.
    assert torch.equal(augment.ten_crop(images, size), expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalize_gives_the_same_for_bytes_and_floats(channels_last: bool) -> None:
    images = byte_images().permute(0, 3, 1, 2)
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    expected = reference.normalize(images.float() / 255, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    for source in (images, images.float() / 255):
        original = source.clone()
        actual = augment.normalize(source, mean, std, torch.float32, channels_last)
        assert torch.allclose(actual, expected, atol=1e-5)
        assert torch.equal(source, original)

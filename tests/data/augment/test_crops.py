"""Crop windows are inside the image and distributed as in torchvision's RandomResizedCrop."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import RandomResizedCrop

from distdl.core.counter_rng import uniform
from distdl.data.augment.crops import DRAWS, central_window, random_window, random_windows

N = 3000


def windows(height: int, width: int) -> np.ndarray:
    return random_window(uniform(0, 0, np.arange(N), "window", DRAWS), height, width)


@pytest.mark.parametrize("shape", [(375, 500), (60, 41), (5, 5), (1, 1), (1, 90), (400, 20)])
def test_windows_are_inside_the_image(shape: tuple[int, int]) -> None:
    top, left_edge, tall, wide = windows(*shape).T
    assert (top >= 0).all() and (left_edge >= 0).all() and (tall > 0).all() and (wide > 0).all()
    assert (top + tall <= shape[0]).all() and (left_edge + wide <= shape[1]).all()


@pytest.mark.parametrize("shape", [(375, 500), (60, 41), (1, 1), (400, 20)])
def test_single_windows_match_those_of_a_batch(shape: tuple[int, int]) -> None:
    single_windows = random_windows(uniform(0, 0, np.arange(N), "window", DRAWS))
    assert [window(*shape) for window in single_windows] == [tuple(window) for window in windows(*shape)]


@pytest.mark.parametrize("shape", [(375, 500), (200, 200)])
def test_area_and_aspect_are_distributed_as_in_torchvision(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image, crop = torch.zeros(3, *shape, dtype=torch.uint8), RandomResizedCrop(8)
    draws = [crop.make_params([image]) for _ in range(N)]
    expected = np.array([[draw[key] for key in ("top", "left", "height", "width")] for draw in draws])
    actual = windows(*shape)
    for quantity in (
        lambda w: w[:, 2] * w[:, 3],
        lambda w: w[:, 3] / w[:, 2],
        lambda w: w[:, 0] / (shape[0] - w[:, 2] + 1),
        lambda w: w[:, 1] / (shape[1] - w[:, 3] + 1),
    ):
        # Eight comparisons at 1e-4: equal distributions fail one of them once in 1,250 seeds.
        assert stats.ks_2samp(quantity(actual), quantity(expected)).pvalue > 1e-4


def test_a_very_long_image_gives_its_central_window() -> None:
    assert (windows(400, 20) == [(400 - 27) // 2, 0, 27, 20]).all()


@pytest.mark.parametrize(
    ("height", "width", "share", "expected"),
    [(256, 256, 7 / 8, (16, 16, 224, 224)), (300, 500, 1.0, (0, 100, 300, 300)), (1, 1, 7 / 8, (0, 0, 1, 1))],
)
def test_the_central_window_is_a_square_in_the_middle(height: int, width: int, share: float, expected: tuple) -> None:
    assert central_window(height, width, share) == expected

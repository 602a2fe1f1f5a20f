"""Mean and standard deviation of images in memory."""

from pathlib import Path

import numpy as np
import pytest

from distdl.core.config import DataConfig
from distdl.data.sets import statistics
from distdl.data.sets.load import load


def test_statistics_are_computed_from_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 9, 7, 3), dtype=np.uint8)
    pixels = images.reshape(-1, 3) / 255
    mean, std = statistics.of_images(images)
    assert mean == pytest.approx(pixels.mean(0), abs=1e-4)
    assert std == pytest.approx(pixels.std(0), abs=1e-4)


def test_a_constant_channel_has_a_deviation_of_one_level() -> None:
    mean, std = statistics.of_images(np.full((3, 4, 4, 1), 51, np.uint8))
    assert mean == (0.2,) and std == (round(1 / 255, 4),)


def test_a_decathlon_domain_in_memory_is_measured(data_root: Path) -> None:
    measured = load(DataConfig(name="decathlon-cifar100", root=data_root))
    known = load(DataConfig(name="cifar100", root=data_root))
    assert measured.mean == pytest.approx(known.mean, abs=0.02)
    assert measured.std == pytest.approx(known.std, abs=0.02)

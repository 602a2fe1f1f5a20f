"""Published weights of CIFAR ResNets reach their published accuracy, which shows that the layers are the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distdl.core.config import ModelConfig
from distdl.models.build import build
from distdl.models.cifar_resnet import CifarResNet

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = {  # file: (network, test accuracy on all 10,000 images, as published)
    "resnet20-12fca82f.th": ("resnet20", 0.9173),
    "resnet32-d509ac18.th": ("resnet32", 0.9263),
    "resnet44-014dd654.th": ("resnet44", 0.9310),
    "resnet56-4bfd9763.th": ("resnet56", 0.9339),
}


def cifar_test(root: Path) -> tuple[Tensor, Tensor]:
    records = np.fromfile(root / "cifar-10-batches-bin" / "test_batch.bin", np.uint8).reshape(-1, 3073)
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)) / 255
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std, torch.from_numpy(records[:, 0].astype(np.int64))


@torch.no_grad()
def cifar_accuracy(root: Path, file: str, samples: slice) -> float:
    config = ModelConfig(name=CIFAR[file][0], weights=str(root / "weights" / file))
    network = build(config, classes=10, channels=3, image_size=32).eval()
    images, labels = (tensor[samples] for tensor in cifar_test(root))
    right = [(network(x).argmax(1) == y).sum() for x, y in zip(images.split(250), labels.split(250), strict=True)]
    return float(sum(right)) / len(labels)


@pytest.mark.parametrize("file", CIFAR)
def test_accuracy_on_part_of_the_test_set(file: str, data_root: Path) -> None:
    """On 500 images the accuracy is within five standard errors of the published one."""
    published = CIFAR[file][1]
    assert abs(cifar_accuracy(data_root, file, slice(0, 10_000, 20)) - published) < 5 * (0.0662 * 0.93 / 500) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("file", CIFAR)
def test_accuracy_on_the_whole_test_set(file: str, data_root: Path) -> None:
    assert cifar_accuracy(data_root, file, slice(None)) == pytest.approx(CIFAR[file][1], abs=1.01e-4)


@pytest.mark.parametrize("depth", [7, 21, 2])
def test_a_depth_other_than_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="6n"):
        CifarResNet(depth)

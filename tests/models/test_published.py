"""Published weights do here what their authors measured: the layers are theirs, not only the shapes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distdl.core.config import ModelConfig
from distdl.models import build as zoo

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = {  # file: (network, test accuracy on all 10,000 images as its authors state it)
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
    network = zoo.build(config, classes=10, channels=3, image_size=32).eval()
    images, labels = (tensor[samples] for tensor in cifar_test(root))
    right = [(network(x).argmax(1) == y).sum() for x, y in zip(images.split(250), labels.split(250), strict=True)]
    return float(sum(right)) / len(labels)


@pytest.mark.parametrize("file", CIFAR)
def test_part_of_the_test_set(file: str, data_root: Path) -> None:
    """500 images: five standard errors of the published accuracy."""
    published = CIFAR[file][1]
    assert abs(cifar_accuracy(data_root, file, slice(0, 10_000, 20)) - published) < 5 * (0.0662 * 0.93 / 500) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("file", CIFAR)
def test_whole_test_set(file: str, data_root: Path) -> None:
    assert cifar_accuracy(data_root, file, slice(None)) == pytest.approx(CIFAR[file][1], abs=1.01e-4)


def photos(folder: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2 import functional

    images = [decode_image(str(file), mode=ImageReadMode.RGB) for file in sorted(folder.iterdir())[:16]]
    squares = [functional.center_crop(functional.resize(image, [224], antialias=True), [224, 224]) for image in images]
    return torch.stack(squares) / 255


@pytest.mark.parametrize(
    ("folder", "wnid"),
    [
        ("flower_photos/val/daisy", "n11939491"),
        ("caltech101/101_ObjectCategories/grand_piano", "n03452741"),
        ("caltech101/101_ObjectCategories/revolver", "n04086273"),
    ],
)
@torch.no_grad()
def test_darknet_tiny_knows_what_it_sees(folder: str, wnid: str, data_root: Path) -> None:
    """Photographs of other sets, of classes that ImageNet has too: among 1,000, the right one is in the first five."""
    config = ModelConfig(name="darknet-tiny", weights=str(data_root / "weights/darknet_tiny_imagenet_state_dict.pth"))
    network = zoo.build(config, classes=1000, channels=3, image_size=224).eval()
    order = (data_root / "weights" / "imagenet_wnids_in_output_order.txt").read_text().split()
    best = network(photos(data_root / folder)).topk(5).indices
    assert (best == order.index(wnid)).any(1).float().mean() > 0.8


def test_darknet_tiny_keeps_its_features_for_other_classes(data_root: Path) -> None:
    file = data_root / "weights" / "darknet_tiny_imagenet_state_dict.pth"
    config = ModelConfig(name="darknet-tiny", weights=str(file), trainable_features=(False,))
    network = zoo.build(config, classes=5, channels=3, image_size=224).eval()
    published = torch.load(file, map_location="cpu", weights_only=True)
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert all(torch.equal(value, published[key]) for key, value in network.state_dict().items() if key[:3] != "49.")
    assert {key for key, value in network.named_parameters() if value.requires_grad} == {"49.weight", "49.bias"}

"""Published weights of Darknet's tiny classifier recognize photographs, and load with other classes."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from distdl.core.config import ModelConfig
from distdl.models.build import build


def photos(folder: Path) -> Tensor:
    from torchvision.transforms.v2 import functional

    images = [functional.pil_to_tensor(Image.open(file).convert("RGB")) for file in sorted(folder.iterdir())[:16]]
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
def test_darknet_tiny_recognizes_photographs(folder: str, wnid: str, data_root: Path) -> None:
    """The correct class is among the top five of 1,000. The photographs are from other sets than ImageNet."""
    config = ModelConfig(name="darknet-tiny", weights=str(data_root / "weights/darknet_tiny_imagenet_state_dict.pth"))
    network = build(config, classes=1000, channels=3, image_size=224).eval()
    order = (data_root / "weights" / "imagenet_wnids_in_output_order.txt").read_text().split()
    best = network(photos(data_root / folder)).topk(5).indices
    assert (best == order.index(wnid)).any(1).float().mean() > 0.8


def test_darknet_tiny_keeps_its_features_for_other_classes(data_root: Path) -> None:
    file = data_root / "weights" / "darknet_tiny_imagenet_state_dict.pth"
    config = ModelConfig(name="darknet-tiny", weights=str(file), trainable_features=(False,))
    network = build(config, classes=5, channels=3, image_size=224).eval()
    published = torch.load(file, map_location="cpu", weights_only=True)
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert all(torch.equal(value, published[key]) for key, value in network.state_dict().items() if key[:3] != "49.")
    assert {key for key, value in network.named_parameters() if value.requires_grad} == {"49.weight", "49.bias"}

"""ResNets for 32 x 32 images: He et al. 2015 (arXiv:1512.03385), section 4.2, with option A shortcuts.

Names of parameters are those of the published CIFAR-10 weights (akamaster/pytorch_resnet_cifar10), so that these load
unchanged.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def cifar_resnet(*, classes: int, channels: int, image_size: int, depth: int) -> nn.Module:
    """Build the network. It works for any image size, because it ends in an average over all pixels."""
    return CifarResNet(depth, classes=classes, channels=channels)


class CifarResNet(nn.Module):
    """6n + 2 layers: a convolution, three stages of n blocks with 16, 32 and 64 channels, and a linear layer.

    Args:
        depth: 20, 32, 44, 56, 110 or any other 6n + 2.
    """

    def __init__(self, depth: int, *, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has 6n + 2 layers, not {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [b, classes] of images [b, channels, H, W]."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Compute the shortcut by option A of the paper: every other pixel, padded with channels of zeros."""
        if self.stride == 1 and not self.extra:
            return x
        pixels = x[:, :, :: self.stride, :: self.stride]
        return F.pad(pixels, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Block(inputs, outputs, stride), *(Block(outputs, outputs, stride=1) for _ in range(blocks - 1))
    )

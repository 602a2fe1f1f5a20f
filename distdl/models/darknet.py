"""Darknet's "tiny" ImageNet classifier (Redmon, pjreddie.com/darknet/imagenet): 1.04 million parameters."""

from torch import Tensor, nn

POOL = (0, 0)
# (outputs, kernel) of each convolution. The 1 x 1 convolutions reduce the channels, as in SqueezeNet.
LAYERS = (
    *((16, 3), POOL, (32, 3), POOL),
    *((16, 1), (128, 3), (16, 1), (128, 3), POOL),
    *((32, 1), (256, 3), (32, 1), (256, 3), POOL),
    *((64, 1), (512, 3), (64, 1), (512, 3), (128, 1)),
)


def darknet_tiny(*, classes: int, channels: int, image_size: int) -> nn.Module:
    """Build the network. It works for any image size, because it ends in an average over all pixels."""
    return DarknetTiny(classes=classes, channels=channels)


class DarknetTiny(nn.Sequential):
    """Blocks of convolution, BatchNorm and leaky ReLU, then a 1 x 1 convolution to the classes, and an average.

    Modules are numbered as in the published state_dict, whose weights expect RGB values in 0 to 1 without
    normalization.
    """

    def __init__(self, *, classes: int = 1000, channels: int = 3) -> None:
        layers: list[nn.Module] = []
        for layer in LAYERS:
            if layer == POOL:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                continue
            outputs, kernel = layer
            layers += [
                nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(outputs, eps=1e-3),
                nn.LeakyReLU(0.1, inplace=True),
            ]
            channels = outputs
        super().__init__(*layers, nn.Conv2d(channels, classes, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits [b, classes] of images [b, channels, H, W]; the published weights are for 224 x 224."""
        return super().forward(input).mean(dim=(2, 3))

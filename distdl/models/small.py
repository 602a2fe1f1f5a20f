"""Networks for small images: one for scikit-learn's 8 x 8 digits, and those of a course on optimizers (MNIST)."""

import math

from torch import nn


def digits_cnn(classes: int, channels: int, image_size: int) -> nn.Sequential:
    """Two convolutions and two linear layers. Without dropout and BatchNorm: a step depends on its samples alone."""
    side = math.ceil(image_size / 2)
    network = _network(
        features=[
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ],
        classifier=[nn.Linear(32 * side**2, 64), nn.ReLU(), nn.Linear(64, classes)],
    )
    # torch's own initial weights are too small for ReLU (He et al. 2015): plain SGD would stand still at first.
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return network


def mnist_cnn(classes: int, channels: int, image_size: int) -> nn.Sequential:
    """5x5x32 - pool - 5x5x64 - pool - 1024 - dropout 0.5 - classes: 3,274,634 parameters on MNIST.

    The network of TensorFlow's old "Deep MNIST" tutorial, with the initial weights of its Keras form: Glorot's
    uniform, biases zero.
    """
    side = math.ceil(math.ceil(image_size / 2) / 2)
    network = _network(
        features=[
            nn.Conv2d(channels, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ],
        classifier=[nn.Linear(64 * side**2, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, classes)],
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return network


def mnist_fast(classes: int, channels: int, image_size: int) -> nn.Sequential:
    """LeNet's shape with BatchNorm: a sixth of `mnist_cnn`'s work for as good an answer, sooner.

    Pooling comes before BatchNorm and ReLU, which then have a quarter of the pixels to pass; the order of ReLU and
    max-pooling does not change what comes out.
    """
    side = (image_size - 4) // 2
    side = (side - 4) // 2
    return _network(
        features=[
            nn.Conv2d(channels, 24, 5),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 48, 5),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(48),
            nn.ReLU(),
        ],
        classifier=[nn.Linear(48 * side**2, 128), nn.ReLU(), nn.Linear(128, classes)],
    )


def linear(classes: int, channels: int, image_size: int) -> nn.Sequential:
    """y = Wx + b. With one class, one channel and one pixel it is a line through points."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


def softmax(classes: int, channels: int, image_size: int) -> nn.Sequential:
    """Softmax regression: `linear` from zeros, so that all classes start alike. The softmax itself is in the loss."""
    network = linear(classes, channels, image_size)
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


def _network(features: list[nn.Module], classifier: list[nn.Module]) -> nn.Sequential:
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Sequential(*classifier))
    return network

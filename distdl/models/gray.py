"""Conversion of networks for color images to gray images: the first convolution is summed over the colors."""

from torch import Tensor, nn

from distdl.models.family import Adapter, StateDict


def fold_to_gray(weight: Tensor) -> Tensor:
    """Sum a weight [o, 3, h, w] over its input channels, to [o, 1, h, w].

    The result is the response to a gray image in all three channels. A mean would change the scale of the activations
    for which the next layer was trained or initialized.
    """
    return weight.sum(dim=1, keepdim=True)


def make_gray(network: nn.Module) -> None:
    """Convert a network for color images to images with one channel, in place.

    Raises:
        ValueError: the network has no convolution.
    """
    first = first_convolution(network)
    if first is None:
        raise ValueError("it has no convolution")
    convolution = network.get_submodule(first)
    assert isinstance(convolution, nn.Conv2d)
    convolution.in_channels = 1
    convolution.weight = nn.Parameter(fold_to_gray(convolution.weight.detach()))


def first_convolution(network: nn.Module) -> str | None:
    """Return the name of the convolution that processes the image, or None for a network without convolutions."""
    return next((name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)), None)


def _is_color(state: StateDict, network: nn.Module) -> bool:
    key = f"{first_convolution(network)}.weight"
    if key not in state or state[key].ndim != 4:
        return False
    return state[key].shape[1] == 3 and network.state_dict()[key].shape[1] == 1


def _to_gray(state: StateDict, network: nn.Module) -> StateDict:
    key = f"{first_convolution(network)}.weight"
    return state.replaced((name, fold_to_gray(value) if name == key else value) for name, value in state.items())


COLOR_WEIGHTS = Adapter(name="color weights for gray images", applies=_is_color, adapt=_to_gray)

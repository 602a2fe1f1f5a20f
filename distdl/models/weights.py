"""Weights of a network from torchvision or from a file, checked before they are taken."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from distdl.core import checkpoints
from distdl.core.errors import UserError
from distdl.core.manifest import STATE
from distdl.core.paths import data_root
from distdl.models import freezing as parts

State = OrderedDict[str, Tensor]

SUFFIXES = (".pth", ".th", ".pt", ".safetensors")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which training scripts put a state_dict beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before each name."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Extra classifiers of GoogLeNet and Inception, which distdl's networks go without."""

_DENSENET_2017 = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load(network: nn.Module, weights: str, *, name: str, part: str = "all") -> None:
    """Fill a network with weights. The last layer stays as it was initialised where the weights have other classes.

    Args:
        weights: "torchvision", a file that ends in .pth, .th, .pt or .safetensors, or a run folder or checkpoint.
        name: the network's name, to find torchvision's weights and for errors.
        part: what is taken: "all", "features" or "classifier"; the other part stays as it was initialised.
    Raises:
        UserError: for a file that is missing, damaged or not made of tensors, and for names and shapes that differ.
    """
    state = from_torchvision(name) if weights == "torchvision" else read(Path(weights))
    state = _translate(state, network)
    head = parts.head(network)
    root = head.split(".")[0] + "."
    own = network.state_dict()
    if part != "all":
        for key in [key for key in state if key.startswith(root) != (part == "classifier")]:
            del state[key]
    expected = {key for key in own if part == "all" or key.startswith(root) == (part == "classifier")}
    if _other_classes(state.get(f"{head}.weight"), own[f"{head}.weight"]):
        for key in (f"{head}.weight", f"{head}.bias"):
            state.pop(key, None)
            expected.discard(key)
    complaints = [
        f"{key} is {list(value.shape)} there and {list(own[key].shape)} here"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    if not complaints:
        found = network.load_state_dict(state, strict=False)
        # Counters that only a BatchNorm without momentum reads; files from before 2018 have none.
        lacking = [key for key in found.missing_keys if key in expected and not key.endswith("num_batches_tracked")]
        complaints = [f"{key} is not there" for key in lacking] + [
            f"{key} is not here" for key in found.unexpected_keys
        ]
    if complaints:
        more = f", and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise UserError(f"weights {weights} do not fit {name}: {'; '.join(complaints[:3])}{more}")


def from_torchvision(name: str) -> State:
    """The weights that torchvision recommends, from torch's cache or downloaded into it."""
    from torchvision.models import get_model_weights

    source = get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(source.url).name
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):  # of all ranks that start at once, one downloads
        if not file.is_file():
            try:
                torch.hub.download_url_to_file(source.url, str(file), torch.hub.HASH_REGEX.search(file.name)[1], False)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"torchvision's weights of {name} cannot be downloaded ({getattr(error, 'reason', error)}): put "
                    f"{source.url} into {file.parent}, or name a file by --model.weights"
                ) from None
    return read(file)


def read(file: Path) -> State:
    """Tensors by name from a file, out of the wrapper and without the prefixes that training scripts add.

    A name without a folder that is not here is looked for in the folder weights beside the data sets too.
    Nothing in the file is run: it is read as safetensors, or by torch.load with `weights_only`.
    """
    if file.is_dir():
        file = checkpoints.find(file, warn=lambda text: print(f"warning: {text}")) / STATE
    if file.suffix not in SUFFIXES:
        raise UserError(
            f'model.weights "{file}": give none, torchvision, a run folder, or a file that ends in '
            f"{', '.join(SUFFIXES)}"
        )
    if not file.is_file():
        beside_sets = data_root() / "weights" / file.name
        if len(file.parts) > 1:
            raise UserError(f"model.weights: there is no file {file}")
        if not beside_sets.is_file():
            raise UserError(f"model.weights: there is no file {file}, nor {beside_sets}")
        file = beside_sets
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} is damaged, or holds objects other than tensors, which distdl does not unpickle: save the "
            "network's state_dict alone"
        ) from None
    except Exception as error:  # torch, zipfile and safetensors each raise their own for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{file} cannot be read; is it whole? ({reason})") from None
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f'{file} holds no state_dict: tensors by name, or such under "state_dict"')
    return _without_prefixes(content)


def _without_prefixes(content: Mapping[str, Tensor]) -> State:
    # The versions of its modules go with a state_dict: by them torch translates those of older layouts.
    state, versions = OrderedDict(content), getattr(content, "_metadata", None)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = OrderedDict((key.removeprefix(prefix), value) for key, value in state.items())
            versions = versions and {key.removeprefix(prefix): value for key, value in versions.items()}
    state._metadata = versions
    return state


def _translate(state: State, network: nn.Module) -> State:
    """The state in the layout of `network`: other names, images of one channel, other sizes of image."""
    own = network.state_dict()
    versions = state._metadata or own._metadata
    state = OrderedDict(
        (_DENSENET_2017.sub(r"\1\2", key), value)
        for key, value in state.items()
        if key in own or not key.startswith(AUXILIARY)
    )
    state._metadata = versions
    first = f"{first_convolution(network)}.weight"
    if first in state and state[first].ndim == 4 and state[first].shape[1] == 3 and own[first].shape[1] == 1:
        state[first] = fold_to_gray(state[first])
    position = "encoder.pos_embedding"
    if position in own and position in state and own[position].shape != state[position].shape:
        from torchvision.models.vision_transformer import interpolate_embeddings

        interpolate_embeddings(network.image_size, network.patch_size, state)
    return state


def first_convolution(network: nn.Module) -> str | None:
    """Name of the convolution that sees the image, or None for a network without."""
    names: Iterable[str] = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    return next(iter(names), None)


def fold_to_gray(weight: Tensor) -> Tensor:
    """[o, 3, h, w] -> [o, 1, h, w]: what the convolution does to a gray image repeated three times.

    Summed and not averaged, so the next layer sees values of the scale that it was trained, or initialised, for.
    """
    return weight.sum(dim=1, keepdim=True)


def _other_classes(there: Tensor | None, here: Tensor) -> bool:
    return there is not None and there.shape[1:] == here.shape[1:] and len(there) != len(here)

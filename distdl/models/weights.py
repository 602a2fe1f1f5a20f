"""Weights of a network from torchvision or from a file: located, read, adapted, selected and checked."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from distdl.core import checkpoints
from distdl.core.errors import UserError
from distdl.core.manifest import STATE
from distdl.core.paths import data_root
from distdl.models import torchvision
from distdl.models.blocks import head
from distdl.models.family import Adapter, State, family_of
from distdl.models.gray import COLOR_WEIGHTS
from distdl.profiling.counting.meta import meta_copy

SUFFIXES = (".pth", ".th", ".pt", ".safetensors")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which training scripts store a state_dict together with other values."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile add to each name."""


def load(network: nn.Module, weights: str, *, name: str, part: str = "all") -> None:
    """Fill a network with weights. The last layer keeps its initial values if the weights have other classes.

    Args:
        weights: "torchvision", a file that ends in .pth, .th, .pt or .safetensors, or a run folder or checkpoint.
        name: the network's name, to find torchvision's weights and for errors.
        part: the part that is filled: "all", "features" or "classifier"; the other keeps its initial values.
    Raises:
        UserError: for a file that is missing, damaged or not made of tensors, and for names and shapes that differ.
    """
    state = select(adapt(read(locate(weights, name)), network), network, part)
    if faults := mismatches(state, network):
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"weights {weights} do not fit {name}: {'; '.join(faults[:3])}{more}")
    network.load_state_dict(state, strict=False)


def locate(weights: str, network: str) -> Path:
    """The file of the weights that a configuration names.

    A file name without a folder that is not in the current folder is searched in the data root's folder weights too.

    Args:
        network: the network's name, for torchvision's weights.
    Raises:
        UserError: if there is no such file, or torchvision's cannot be downloaded.
    """
    if weights == "torchvision":
        return torchvision.weights_file(network)
    file = Path(weights)
    if file.is_dir():
        return checkpoints.find(file, warn=lambda text: print(f"warning: {text}")) / STATE
    if file.suffix not in SUFFIXES:
        raise UserError(
            f'model.weights "{file}": give none, torchvision, a run folder, or a file that ends in '
            f"{', '.join(SUFFIXES)}"
        )
    if file.is_file():
        return file
    if len(file.parts) > 1:
        raise UserError(f"model.weights: there is no file {file}")
    shared = data_root() / "weights" / file.name
    if not shared.is_file():
        raise UserError(f"model.weights: there is no file {file}, nor {shared}")
    return shared


def read(file: Path) -> State:
    """Tensors by name, without the wrapper and the prefixes that training scripts add.

    No code in the file is run: it is read as safetensors, or by torch.load with `weights_only`.

    Raises:
        UserError: if the file is damaged or has no state_dict.
    """
    content = _content(file)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f'{file} has no state_dict: tensors by name, alone or under "state_dict"')
    state = State(content)
    state._metadata = getattr(content, "_metadata", None)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            versions = state._metadata
            state = state.replaced((key.removeprefix(prefix), value) for key, value in state.items())
            state._metadata = versions and {key.removeprefix(prefix): value for key, value in versions.items()}
    return state


def _content(file: Path) -> object:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} is damaged, or has objects other than tensors, which distdl does not unpickle: save the "
            "network's state_dict alone"
        ) from None
    except Exception as error:  # torch, zipfile and safetensors each raise their own for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{file} cannot be read; is it complete? ({reason})") from None


def adapt(state: State, network: nn.Module) -> State:
    """The state in the layout of `network`: by the adapters of its family, then by those of all networks."""
    for adapter in (*family_of(network).adapters, *ADAPTERS):
        if adapter.applies(state, network):
            state = adapter.adapt(state, network)
    return state


def select(state: State, network: nn.Module, part: str) -> State:
    """The state with the network's own values for what is not taken from it.

    That is the other part than `part`, and the last layer if the state has other classes.
    """
    initial = network.state_dict()
    last = head(network)
    root = last.split(".")[0] + "."
    unchanged: set[str] = set()
    if part != "all":
        unchanged = {key for key in (*state, *initial) if key.startswith(root) != (part == "classifier")}
    weight = f"{last}.weight"
    if weight not in unchanged and _has_other_classes(state.get(weight), initial[weight]):
        unchanged |= {weight, f"{last}.bias"}
    taken = {key: value for key, value in state.items() if key not in unchanged}
    return state.replaced((taken | {key: value for key, value in initial.items() if key in unchanged}).items())


def _has_other_classes(given: Tensor | None, initial: Tensor) -> bool:
    return given is not None and given.shape[1:] == initial.shape[1:] and len(given) != len(initial)


def mismatches(state: State, network: nn.Module) -> list[str]:
    """Sentences about the tensors of the state that do not fit the network, or that it lacks."""
    expected = network.state_dict()
    shapes = [
        f"{key} is {list(value.shape)} in the weights and {list(expected[key].shape)} in the network"
        for key, value in state.items()
        if key in expected and value.shape != expected[key].shape
    ]
    if shapes:
        return shapes
    # Modules translate older layouts while they load: only loading shows what fits.
    try:
        keys = meta_copy(network).load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:  # shapes under translated names
        return [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
    # Counters that only a BatchNorm without momentum reads; files from before 2018 have none.
    missing = [key for key in keys.missing_keys if not key.endswith("num_batches_tracked")]
    return [
        *(f"{key} is not in the weights" for key in missing),
        *(f"{key} is not in the network" for key in keys.unexpected_keys),
    ]


def _with_versions(state: State, network: nn.Module) -> State:
    state = state.replaced(state.items())
    state._metadata = getattr(network.state_dict(), "_metadata", None)
    return state


ADAPTERS = (
    Adapter(
        name="files without the versions of modules, such as safetensors",
        applies=lambda state, network: not state._metadata,
        adapt=_with_versions,
    ),
    COLOR_WEIGHTS,
)
"""Translations that suit every network."""

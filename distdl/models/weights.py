"""Loading of weights from torchvision or from a file: locate, read, adapt, select and check them."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from distdl.core import checkpoints
from distdl.core.errors import UserError
from distdl.core.manifest import STATE
from distdl.core.paths import data_root
from distdl.core.regular import require_regular
from distdl.core.text import print_line
from distdl.models import torchvision
from distdl.models.blocks import head
from distdl.models.family import Adapter, StateDict, family_of
from distdl.models.gray import COLOR_WEIGHTS
from distdl.profiling.counting.meta import meta_copy
from distdl.runtime.tensors import read_pickled

SUFFIXES = (".pth", ".th", ".pt", ".safetensors")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which training scripts store a state_dict together with other values."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile add to each name."""


def load(network: nn.Module, weights: str, *, name: str, part: str = "all") -> None:
    """Load weights into a network. If their number of classes differs, the last layer keeps its initial values.

    Args:
        weights: "torchvision", a file that ends in .pth, .th, .pt or .safetensors, or a run folder or checkpoint.
        name: the network's name, to find torchvision's weights and for errors.
        part: the part that is loaded: "all", "features" or "classifier"; the other part keeps its initial values.
    Raises:
        UserError: the file is missing, damaged or has other objects than tensors, or names or shapes differ.
    """
    state = select(adapt(read(locate(weights, name)), network), network, part)
    if problems := mismatches(state, network):
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"weights {weights} do not fit {name}: {'; '.join(problems[:3])}{more}")
    network.load_state_dict(state, strict=False)


def locate(weights: str, network: str) -> Path:
    """Return the file of the weights that a configuration names.

    A file name without a folder is searched in the current folder, then in the folder weights/ of the data root.

    Args:
        network: the network's name, for torchvision's weights.
    Raises:
        UserError: the file does not exist, or torchvision's weights cannot be downloaded.
    """
    if weights == "torchvision":
        return torchvision.weights_file(network)
    file = Path(weights)
    if file.is_dir():
        return checkpoints.find(file, warn=lambda text: print_line(f"warning: {text}")) / STATE
    if file.suffix not in SUFFIXES:
        raise UserError(
            f'model.weights "{file}": expected none, torchvision, a run folder, or a file that ends in '
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


def read(file: Path) -> StateDict:
    """Read tensors by name, and remove the wrapper and the prefixes that training scripts add.

    No code in the file is executed: it is read as safetensors, or by torch.load with `weights_only`.

    Raises:
        UserError: the file is damaged or has no state_dict.
    """
    content = _content(file)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f'{file} has no state_dict: tensors by name, alone or under "state_dict"')
    state = StateDict(content)
    state._metadata = getattr(content, "_metadata", None)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            versions = state._metadata
            state = state.replaced((key.removeprefix(prefix), value) for key, value in state.items())
            state._metadata = versions and {key.removeprefix(prefix): value for key, value in versions.items()}
    return state


def _content(file: Path) -> object:
    if file.suffix != ".safetensors":
        return read_pickled(file)
    from safetensors.torch import load_file

    try:
        require_regular(file)
        return load_file(file)
    except Exception as error:  # safetensors raises its own for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{file} cannot be read; is it complete? ({reason})") from None


def adapt(state: StateDict, network: nn.Module) -> StateDict:
    """Convert the state to the layout of `network`, by the adapters of its family, then by those for all networks."""
    for adapter in (*family_of(network).adapters, *ADAPTERS):
        if adapter.applies(state, network):
            state = adapter.adapt(state, network)
    return state


def select(state: StateDict, network: nn.Module, part: str) -> StateDict:
    """Replace the entries of a state that are not to be loaded by the network's initial values.

    These are the parameters outside of `part`, and the last layer if the number of classes differs.
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
    loaded = {key: value for key, value in state.items() if key not in unchanged}
    return state.replaced((loaded | {key: value for key, value in initial.items() if key in unchanged}).items())


def _has_other_classes(weight: Tensor | None, initial: Tensor) -> bool:
    return weight is not None and weight.shape[1:] == initial.shape[1:] and len(weight) != len(initial)


def mismatches(state: StateDict, network: nn.Module) -> list[str]:
    """Return one sentence for each tensor that is missing in the state or does not fit the network."""
    expected = network.state_dict()
    shapes = [
        f"{key} is {list(value.shape)} in the weights and {list(expected[key].shape)} in the network"
        for key, value in state.items()
        if key in expected and value.shape != expected[key].shape
    ]
    if shapes:
        return shapes
    # Modules convert older layouts while they load, so only loading shows which tensors fit.
    try:
        keys = meta_copy(network).load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:  # wrong shapes of tensors whose names were converted
        return [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
    # The counters are used only by a BatchNorm without momentum, and are missing in files from before 2018.
    missing = [key for key in keys.missing_keys if not key.endswith("num_batches_tracked")]
    return [
        *(f"{key} is not in the weights" for key in missing),
        *(f"{key} is not in the network" for key in keys.unexpected_keys),
    ]


def _with_versions(state: StateDict, network: nn.Module) -> StateDict:
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
"""Adapters for all networks."""

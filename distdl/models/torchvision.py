"""torchvision's networks: its classifiers as rows of the registry, and special cases.

Importing torchvision takes seconds, so it is imported only when one of its networks is needed.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distdl.core.errors import UserError
from distdl.core.flock import locked
from distdl.core.kinds import Row
from distdl.models.family import Adapter, Family, StateDict
from distdl.models.gray import make_gray
from distdl.profiling.counting.meta import weightless

IMAGENET_SIZE, IMAGENET_CLASSES = 224, 1000
AUXILIARY_HEADS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Networks with auxiliary classifiers, and the prefixes of these classifiers' parameters."""
RESIDUAL = ("resnet", "resnext", "wide_resnet")

_DENSENET_2017 = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_PAPER = re.compile(r"`(?P<title>[^`<]+?)\s*<(?P<address>[^`>]+)>`")
_POSITIONS = "encoder.pos_embedding"


def names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    from torchvision import models

    return models.list_models(module=models)


def row(name: str) -> Row:
    """Return the registry's row of a classifier."""
    from torchvision import models

    paper = _PAPER.search(models.get_model_builder(name).__doc__ or "")
    title = " ".join(paper["title"].split()) if paper else ""
    return Row(
        factory="distdl.models.torchvision:classifier",
        summary=f"torchvision: {title}",
        traits={"arguments": {"name": name}},
    )


def classifier(name: str, *, classes: int, channels: int, image_size: int, weights_follow: bool = False) -> nn.Module:
    """Build a classifier by name.

    Args:
        weights_follow: whether weights are loaded afterwards, so that the initial values do not matter.
    Raises:
        UserError: `channels` is neither 1 nor 3.
    """
    from torchvision.models import get_model

    if channels not in (1, 3):
        raise UserError(f"{name} needs images with 1 or 3 channels, not {channels}")
    network = get_model(
        name, weights=None, num_classes=classes, **_arguments(name, channels, image_size, weights_follow)
    )
    if channels == 1:
        make_gray(network)
    vars(network)["family"] = FAMILY
    return network


def _arguments(name: str, channels: int, image_size: int, weights_follow: bool) -> dict[str, Any]:
    """Return additional arguments that some of torchvision's constructors need."""
    if name in AUXILIARY_HEADS:
        return {
            # The trainer has a single loss; with BatchNorm auxiliary heads are not needed.
            "aux_logits": False,
            # These weights come from TensorFlow and expect pixels in -1 to 1, computed from ImageNet-normalized ones.
            "transform_input": weights_follow and channels == 3,
            "init_weights": not weights_follow,
        }
    if name.startswith(RESIDUAL):
        # Each block starts as the identity (Goyal et al. 2017, section 5.1). Without this, the loss of ResNet-50 grows
        # during the first dozens of steps.
        return {"zero_init_residual": True}
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    return {}


def other_names() -> list[str]:
    """Return the names of torchvision's networks that are not image classifiers: they can be counted, not trained."""
    from torchvision import models

    classifiers = set(names())
    return [name for name in models.list_models() if name not in classifiers]


def other(name: str) -> nn.Module:
    """Build a network for segmentation, detection or video on the meta device."""
    from torchvision import models

    has_backbone = "weights_backbone" in models.get_model_builder(name).__annotations__
    with weightless():
        return models.get_model(name, weights=None, **({"weights_backbone": None} if has_backbone else {}))


def published_size(name: str) -> int:
    """Return the height and width, in pixels, at which torchvision evaluates its first weights of this name.

    The FLOPs that torchvision publishes are for this size.
    """
    from torchvision import models

    # A vision transformer is built for one size, 224 by default, whatever the size of its first weights.
    if name.startswith("vit_") or name not in names():
        return IMAGENET_SIZE
    return next(iter(models.get_model_weights(name))).transforms.keywords["crop_size"]


def parameters(name: str) -> int:
    """Return the number of parameters for 1,000 classes, from torchvision's table, because building is slow."""
    from torchvision import models

    if name in AUXILIARY_HEADS:  # the table may include the auxiliary heads
        with weightless():
            network = classifier(name, classes=IMAGENET_CLASSES, channels=3, image_size=published_size(name))
        return sum(parameter.numel() for parameter in network.parameters())
    # Weights for larger images have more position embeddings.
    return min(weights.meta["num_params"] for weights in models.get_model_weights(name))


def weights_file(name: str) -> Path:
    """Return the file of the weights that torchvision recommends, in torch's cache; download it if it is missing.

    Raises:
        UserError: torchvision has no weights for this network, or they cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    if name not in names():
        raise UserError(f'torchvision has no weights for {name}: set model.weights to "none" or to a file')
    url: str = get_model_weights(name)["DEFAULT"].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(f".{file.name}.lock")):  # only one of the ranks downloads
        if not file.is_file():
            digest = torch.hub.HASH_REGEX.search(file.name)
            try:
                torch.hub.download_url_to_file(url, str(file), digest and digest[1], progress=False)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"torchvision's weights of {name} cannot be downloaded ({getattr(error, 'reason', error)}): put "
                    f"{url} into {file.parent}, or set --model.weights to a file"
                ) from None
    return file


def _has_auxiliary_heads(state: StateDict, network: nn.Module) -> bool:
    return any(map(_is_auxiliary, state)) and not any(map(_is_auxiliary, network.state_dict()))


def _without_auxiliary_heads(state: StateDict, network: nn.Module) -> StateDict:
    return state.replaced((name, value) for name, value in state.items() if not _is_auxiliary(name))


def _is_auxiliary(name: str) -> bool:
    return any(name.startswith(prefixes) for prefixes in AUXILIARY_HEADS.values())


def _has_densenet_names(state: StateDict, network: nn.Module) -> bool:
    return any(map(_DENSENET_2017.search, state))


def _without_densenet_names(state: StateDict, network: nn.Module) -> StateDict:
    return state.replaced((_DENSENET_2017.sub(r"\1\2", name), value) for name, value in state.items())


def _has_other_positions(state: StateDict, network: nn.Module) -> bool:
    from torchvision.models import VisionTransformer

    if not isinstance(network, VisionTransformer) or _POSITIONS not in state:
        return False
    return network.encoder.pos_embedding.shape != state[_POSITIONS].shape


def _interpolated_positions(state: StateDict, network: nn.Module) -> StateDict:
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    assert isinstance(network, VisionTransformer)
    return state.replaced(interpolate_embeddings(network.image_size, network.patch_size, state.copy()).items())


FAMILY = Family(
    containers=("features", "layers", "encoder", "trunk_output", "blocks"),
    adapters=(
        Adapter(name="auxiliary heads", applies=_has_auxiliary_heads, adapt=_without_auxiliary_heads),
        Adapter(name="DenseNet's names of 2017", applies=_has_densenet_names, adapt=_without_densenet_names),
        Adapter(name="position embeddings", applies=_has_other_positions, adapt=_interpolated_positions),
    ),
)

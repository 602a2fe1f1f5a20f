"""What a verb is asked about: a network by name, as a module without weights, with the input it is made for."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from distdl.core import profiles as resolve
from distdl.core.config import ModelConfig
from distdl.core.errors import UserError, nearest
from distdl.data.sets import load as datasets
from distdl.models import build as zoo
from distdl.profiling.counting.meta import weightless

IMAGENET_SIZE, CIFAR_SIZE = 224, 32


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to count, predict or measure."""

    name: str
    module: nn.Module
    """Its weights may be on the meta device, where they have no values."""
    input_shape: tuple[int, ...]
    batch: int
    """Samples a step of one rank: a profile's batch size, else 1."""


def named(name: str, input_shape: Sequence[int] | None = None) -> Subject:
    """The network called `name`.

    Args:
        name: a network of distdl or torchvision, a profile by name or file, or "package.module:callable", a function
            or class that makes a module when called without arguments, or a module. The current folder is searched too.
        input_shape: of one sample; by default a profile's data set's, the size at which torchvision's weights were
            published, [3, 32, 32] for distdl's own networks and [3, 224, 224] for a callable.
    Raises:
        UserError: nothing has this name, or it does not make a module.
    """
    shape = tuple(input_shape or ())
    if ":" in name:
        return Subject(name=name, module=_imported(name), input_shape=shape or _square(IMAGENET_SIZE), batch=1)
    if name.endswith(".toml") or name in resolve.profiles():
        return _profile(name, shape)
    if name in zoo.OWN:
        shape = shape or _square(CIFAR_SIZE)
        with weightless():
            module = zoo.build(ModelConfig(name=name), classes=10, channels=shape[0], image_size=shape[-1])
        return Subject(name=name, module=module, input_shape=shape, batch=1)
    return _torchvision(name, shape)


def _square(size: int) -> tuple[int, int, int]:
    return 3, size, size


def _profile(name: str, shape: tuple[int, ...]) -> Subject:
    config = resolve.validate(resolve.read_profile(name)[0], where=f'profile "{name}"')
    source = datasets.source_of(config.data.name)
    size = config.data.image_size or source.size
    shape = shape or (source.channels, size, size)
    classes = source.classes if not config.data.labels else 0
    classes = classes or len(datasets.load(config.data).classes)
    with weightless():
        model = replace(config.model, weights="none")
        module = zoo.build(model, classes=classes, channels=shape[0], image_size=shape[-1])
    return Subject(name=Path(name).stem, module=module, input_shape=shape, batch=config.data.rank_samples(1))


def _torchvision(name: str, shape: tuple[int, ...]) -> Subject:
    from torchvision import models

    if name not in models.list_models():
        known = [*models.list_models(), *zoo.OWN, *resolve.profiles()]
        raise UserError(
            f'"{name}" is no network, profile or package.module:callable that can be found{nearest(name, known)}'
        )
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if "weights_backbone" in models.get_model_builder(name).__annotations__:
        options["weights_backbone"] = None
    if not shape:
        shape = _square(_published_size(name))
    elif name.startswith("vit_"):
        options["image_size"] = shape[-1]
    elif name.startswith("maxvit_"):
        options["input_size"] = shape[-2:]
    with weightless():
        module = models.get_model(name, weights=None, **options)
    return Subject(name=name, module=module, input_shape=shape, batch=1)


def _published_size(name: str) -> int:
    """Height and width at which torchvision evaluates its first weights of this name, which its FLOPs are for."""
    from torchvision import models

    # A vision transformer is made for one size, 224 by default, whatever its first weights were tuned at.
    if name.startswith("vit_") or name not in models.list_models(module=models):
        return IMAGENET_SIZE
    return next(iter(models.get_model_weights(name))).transforms.keywords["crop_size"]


def _imported(name: str) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it; the console script does not
    try:
        made = importlib.import_module(module_name)
        for part in attribute.split("."):
            made = getattr(made, part)
        if not isinstance(made, nn.Module):
            with weightless():
                made = made()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise UserError(f"{name} gives a {type(made).__name__}, not a torch.nn.Module")
    return made

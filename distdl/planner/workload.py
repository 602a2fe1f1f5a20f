"""Resolve a network argument of the command line to a module and the shape of its input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from distdl.core import factories, profiles, registry
from distdl.core.conditions import require_keys
from distdl.core.errors import UserError, nearest
from distdl.core.registry import NO_OPTIONS, Options
from distdl.data.sets import load as datasets
from distdl.models import build, torchvision

CIFAR10_SIZE, CIFAR10_CLASSES = 32, 10
"""Image size and number of classes of CIFAR-10, for networks that are not torchvision's."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network to count, predict or measure."""

    name: str
    module: nn.Module
    """The network. Its weights may be on the meta device, where they have no values."""
    input_shape: tuple[int, ...]
    """Shape of one sample, without the batch dimension."""
    batch: int
    """Samples per step of one rank: the batch size of a profile, otherwise 1."""


def named(name: str, input_shape: Sequence[int] | None = None, options: Mapping[str, Options] = NO_OPTIONS) -> Workload:
    """Build the network `name` as a training does.

    Args:
        name: a network of distdl or torchvision, a profile by name or file, or "package.module:callable", which is a
            module or a factory as in `models.build`. The current folder is searched too.
        input_shape: shape of one sample. The default is the image size of a profile's data set, the size at which
            torchvision's weights were published, [3, 32, 32] for other networks, or [3, 224, 224] for a callable.
        options: settings of the network, under "model"; those of a profile are replaced one by one.
    Raises:
        UserError: there is no such network, or it cannot be built.
    """
    require_keys(options, ["model"])
    shape, settings = tuple(input_shape or ()), options.get("model", NO_OPTIONS)
    if name.endswith(".toml") or name in profiles.profiles():
        return _of_profile(name, shape, settings)
    if ":" in name:
        return _of_callable(name, shape or _square(torchvision.IMAGENET_SIZE), settings)
    if name in registry.rows("models"):
        return _created(name, shape or _square(CIFAR10_SIZE), CIFAR10_CLASSES, settings)
    if name in torchvision.names():
        shape = shape or _square(torchvision.published_size(name))
        return _created(name, shape, torchvision.IMAGENET_CLASSES, settings)
    if name in (others := torchvision.other_names()):
        if settings:
            raise UserError(f"options.model: {name} has no settings")
        shape = shape or _square(torchvision.IMAGENET_SIZE)
        return Workload(name=name, module=torchvision.other(name), input_shape=shape, batch=1)
    known = [*build.names(), *others, *profiles.profiles()]
    raise UserError(f'"{name}" is not a known network, profile or package.module:callable{nearest(name, known)}')


def _square(size: int) -> tuple[int, int, int]:
    return 3, size, size


def _created(name: str, shape: tuple[int, ...], classes: int, options: Options) -> Workload:
    module = build.create(name, classes=classes, channels=shape[0], image_size=shape[-1], options=options, meta=True)
    return Workload(name=name, module=module, input_shape=shape, batch=1)


def _of_callable(name: str, shape: tuple[int, ...], options: Options) -> Workload:
    network = factories.get("models", name).call
    if isinstance(network, nn.Module):
        return Workload(name=name, module=network, input_shape=shape, batch=1)
    return _created(name, shape, torchvision.IMAGENET_CLASSES, options)


def _of_profile(name: str, shape: tuple[int, ...], options: Options) -> Workload:
    config = profiles.validate(profiles.read_profile(name)[0], where=f'profile "{name}"')
    source = datasets.source_of(config.data.name, config.data.root, config.options.get("dataset"))
    size = config.data.image_size or source.size
    shape = shape or (source.channels, size, size)
    classes = source.classes if not config.data.labels else 0
    module = build.build(
        config.model,
        classes=classes or len(datasets.load(config.data, source=source).classes),
        channels=shape[0],
        image_size=shape[-1],
        options={**config.options.get("model", {}), **options},
        meta=True,
    )
    return Workload(name=Path(name).stem, module=module, input_shape=shape, batch=config.data.rank_samples(1))

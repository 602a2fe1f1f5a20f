"""The kinds of components, and the row that describes one component."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One component. An entry point names a row or the factory itself."""

    factory: str
    """ "package.module:attribute" of the callable that makes it."""
    summary: str = ""
    """One line for `distdl list`."""
    uses: tuple[str, ...] = ()
    """Fields or sections of `Config` that have an effect with this component, and not with the components of its kind
    that do not list them. See `Kind.fields`."""
    requires: str = ""
    """Package that must be installed to use it, by the name under which it is imported."""
    install: str = ""
    """Command that installs this package."""
    traits: Mapping[str, Any] = field(default_factory=dict)
    """Properties that other parts of distdl read without importing the component."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of component."""

    name: str
    """Singular, and key of the component's settings in `Config.options`."""
    group: str
    """Plural: of `distdl list GROUP` and of the entry-point group `distdl.GROUP`."""
    where: str
    """Field of `Config`, or option, that takes the name."""
    others: tuple[str, ...] = ()
    """Further values of that setting: "auto"."""
    open: str = ""
    """"package.module:function" that returns further names: those of torchvision's networks, of data sets. Names of
    such a kind are checked when the component is made."""
    several: bool = False
    """Whether the setting takes several names; options of each are then in `Config.options` under its name."""
    arguments: tuple[str, ...] = ()
    """Positional arguments that distdl passes to the callable. Its other parameters are settings."""
    makes: str = ""
    """"package.module:class" or a protocol: what the callable must return. Empty if it is checked where it is used."""
    fields: bool = False
    """Whether a row may state `uses`. A loss, an optimizer and a schedule receive the values of these fields as keyword
    arguments; a strategy and a loader receive the whole configuration."""

    @property
    def is_field(self) -> bool:
        """Whether the name is a field of `Config`; only such components have settings."""
        return not self.where.startswith("-") and " " not in self.where

    def label(self, name: str, package: str = "") -> str:
        """The component in front of a message."""
        described = f'"{name}" of {package}' if package else f'"{name}"'
        return f"{self.where}: {described}" if self.is_field else f"{self.name} {described}"


KINDS = {
    kind.group: kind
    for kind in (
        Kind(
            name="model",
            group="models",
            where="model.name",
            open="distdl.models.build:names",
            makes="torch.nn:Module",
        ),
        Kind(
            name="dataset",
            group="datasets",
            where="data.name",
            open="distdl.data.sets.catalog:names",
            makes="distdl.data.dataset:DataSet",
        ),
        Kind(name="loss", group="losses", where="loss", arguments=("logits", "labels"), fields=True),
        Kind(name="metric", group="metrics", where="metrics", several=True, makes="distdl.training.metrics:Metric"),
        Kind(
            name="strategy",
            group="strategies",
            where="strategy",
            others=("auto",),
            arguments=("config",),
            makes="distdl.strategies.base:Strategy",
            fields=True,
        ),
        Kind(
            name="loader",
            group="loaders",
            where="data.loader",
            others=("auto",),
            arguments=("spec", "reason"),
            makes="distdl.data.loaders.base:Loader",
            fields=True,
        ),
        Kind(
            name="optimizer",
            group="optimizers",
            where="optim.name",
            arguments=("groups",),
            makes="torch.optim:Optimizer",
            fields=True,
        ),
        Kind(name="schedule", group="schedules", where="schedule.name", arguments=("epoch", "progress"), fields=True),
        Kind(
            name="augmentation",
            group="augmentations",
            where="data.augment.extra",
            several=True,
            makes="collections.abc:Callable",
        ),
        Kind(
            name="tracker",
            group="trackers",
            where="trackers",
            several=True,
            arguments=("run",),
            makes="distdl.training.trackers.base:Tracker",
        ),
        Kind(name="launcher", group="launchers", where="--with", arguments=("job",)),
        Kind(name="study", group="studies", where="distdl study run"),
    )
}

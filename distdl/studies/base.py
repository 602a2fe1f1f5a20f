"""A study: its settings, the trials that follow from them, and the findings that follow from the trials' results.

    trials(settings) -> [Trial, ...]                 pure: no files, no clock, no devices
    findings(settings, outcomes) -> [Section, ...]   pure: reads results, makes tables, figures and sentences

Studies are found through the entry-point group `distdl.studies`: each entry names a `Study` value. docs/own.md shows
how to add one.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from distdl.core.profiles import Recipe
from distdl.report.content import Section

S = TypeVar("S")
Repetitions = Annotated[int, Field(gt=0, le=1000)]
"""Number of repetitions, limited because a study keeps a list of all its trials in memory."""
Overrides = Mapping[str, Any]
"""Type of a setting that changes trainings: values by dotted name of a field of `distdl.core.config.Config`.
`--set overrides.optim.lr=0.1` sets one, as does `optim.lr = 0.1` under [overrides] in a profile of the study."""
TRAIN = "distdl.training.session"
"""The `call` of a trial that is a training, which `recipe` describes."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training or one call of a function, in its own process group; its folder is STUDY/trials/NAME."""

    name: str
    """A valid folder name, unique in the study: "adam-lr0.001-seed0"."""
    recipe: Recipe = field(default_factory=Recipe)
    """Profile and overrides of a training, without `out` and `resume`, which the runner adds. In text values,
    `{study}` is replaced by the study's folder: {"data.labels": "{study}/trials/teacher/labels.npz"}."""
    ranks: int = 1
    """Number of processes of the training, over all hosts."""
    hosts: str = ""
    """Hosts of the ranks; empty is this host. Names separated by commas, or the number of hosts to emulate here."""
    cores: int = 0
    """Cores for all its processes together, if the host has that many; 0 uses its whole share of the host."""
    call: str = TRAIN
    """"package.module:function" of a trial that is not one training. It is called as function(folder, table), on one
    process, `table` being `settings`; it returns the content of result.json, a dict of plain values. It is called
    again, in the same folder, after a kill. On SIGTERM it may end at once, or save and sys.exit(75)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for `call`. Pass a configuration as `dataclasses.asdict(recipe)`; `Recipe(**table)` restores it."""
    after: tuple[str, ...] = ()  # plain: ok a field of the public interface
    """Names of trials that must be completed before this one begins."""
    labels: Mapping[str, str | int | float] = field(default_factory=dict)
    """Values that distinguish this trial from the others; they become columns of the table of trials."""
    words: InitVar[tuple[str, ...]] = ()  # plain: ok the name of this field in version 0.1
    """Deprecated: the arguments of distdl.train that `recipe` replaces."""

    def __post_init__(self, argv: tuple[str, ...]) -> None:
        if argv:
            message = f"trial {self.name}: use recipe=Recipe(profile=..., overrides={{...}}) instead of arguments"
            warnings.warn(message, DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "recipe", recipe_of(argv))


def recipe_of(argv: Sequence[str]) -> Recipe:
    """Convert arguments of distdl.train, which studies of version 0.1 used, to a recipe."""
    return importlib.import_module("distdl.cli.recipe").recipe(argv)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """State and result of a trial."""

    trial: Trial
    folder: Path
    status: str
    """completed, failed, stopped, running or waiting."""
    result: Mapping[str, Any]
    """Content of result.json; empty if there is none."""

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True, kw_only=True)
class Study(Generic[S]):
    """A study, found by its entry point."""

    name: str
    summary: str = ""
    """One line for `distdl study list`. Those of distdl's own studies are in `core.components`."""
    settings: type[S]
    """A frozen keyword-only dataclass, a docstring under each field; its defaults are the full study, as
    published. `--set key=value` and profiles/studies/NAME.toml change fields."""
    quick: Mapping[str, Any]
    """Settings of the small version, which runs in minutes on two cores."""
    trials: Callable[[S], list[Trial]]
    findings: Callable[[S, Mapping[str, Outcome]], list[Section]]
    """Called with the outcomes so far, by name of the trial; trials may have failed or may not have started."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """New name of each renamed setting, by its former name, which still works with a warning."""
    alone: bool = False
    """Whether its trials measure time and therefore run one at a time per host."""

"""What a study is: settings, the trials that they ask for, and what the trials' results show.

    trials(settings) -> [Trial, ...]                 pure: no files, no clock, no devices
    findings(settings, outcomes) -> [Section, ...]   pure: reads results, makes tables, figures and sentences

Studies are found through the entry-point group `distdl.studies`: each entry names a `Study` value. ARCHITECTURE.md says
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
"""Of a study's trials. Its trials are listed before the first begins: more than that would fill the memory."""
Overrides = Mapping[str, Any]
"""Type of a setting that changes trainings: values by dotted name of a field of `distdl.core.config.Config`.
`--set overrides.optim.lr=0.1` sets one, as does `optim.lr = 0.1` under [overrides] in a profile of the study."""
TRAIN = "distdl.training.session"
"""The `call` of a trial that is a training, which `recipe` describes."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One thing to do, once, in a process group of its own; its folder is STUDY/trials/NAME."""

    name: str
    """Fit for a folder's name; unique in the study: "adam-lr0.001-seed0"."""
    recipe: Recipe = field(default_factory=Recipe)
    """Of a training: its profile and overrides, without `out` and `resume`, which the runner adds. In text values,
    `{study}` is replaced by the study's folder: {"data.labels": "{study}/trials/teacher/labels.npz"}."""
    ranks: int = 1
    """Processes of the training, on this host or in all on `hosts`."""
    hosts: str = ""
    """Where the ranks run, if not here alone: names with commas between, or how many hosts to make on this machine."""
    cores: int = 0
    """Cores that all its processes together may use, where there are as many; 0: its whole share of the host."""
    call: str = TRAIN
    """"package.module:function" of a trial that is not one training. It is called as function(folder, table), on one
    process, `table` being `settings`; it returns what result.json shall hold, a dict of plain values. It is called
    again, in the same folder, after a kill. Told to stop (SIGTERM) it may just die, or save and sys.exit(75)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for `call`. If it needs a configuration: `dataclasses.asdict(recipe)`, read by `Recipe(**table)`."""
    after: tuple[str, ...] = ()
    """Names of trials that must be completed before this one begins."""
    labels: Mapping[str, str | int | float] = field(default_factory=dict)
    """What makes this trial differ from the others: columns of the table of trials."""
    words: InitVar[tuple[str, ...]] = ()  # plain: ok the name of this field in version 0.1
    """Deprecated: the arguments of distdl.train that `recipe` replaces."""

    def __post_init__(self, argv: tuple[str, ...]) -> None:
        if argv:
            message = f"trial {self.name}: words=(...) is deprecated, use recipe=Recipe(profile=..., overrides={{...}})"
            warnings.warn(message, DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "recipe", recipe_of(argv))


def recipe_of(argv: Sequence[str]) -> Recipe:
    """The recipe that arguments of distdl.train give, as studies of version 0.1 had them."""
    return importlib.import_module("distdl.cli.recipe").recipe(argv)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial came to."""

    trial: Trial
    folder: Path
    status: str
    """completed, failed, stopped, running or waiting."""
    result: Mapping[str, Any]
    """result.json; empty unless it is there."""

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True, kw_only=True)
class Study(Generic[S]):
    """A study as a plug-in: a value, found by its entry point."""

    name: str
    summary: str
    """One line for `distdl study list`."""
    settings: type[S]
    """A frozen keyword-only dataclass, a docstring under each field; its defaults are the full study, as its document
    has it. `--set key=value` and profiles/studies/NAME.toml change fields."""
    quick: Mapping[str, Any]
    """Fields of the small version, which runs in minutes on two cores. What it leaves out, the study's pages say."""
    trials: Callable[[S], list[Trial]]
    findings: Callable[[S, Mapping[str, Outcome]], list[Section]]
    """Called with those outcomes that there are; some trials may have failed or still wait. By the trial's name."""
    alone: bool = False
    """Its trials measure time: on a host they run one at a time, whatever --jobs says."""

"""The registered studies: entry points of the group `distdl.studies`, of distdl and of other packages."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from distdl.core.errors import UserError, nearest
from distdl.studies.base import Study

GROUP = "distdl.studies"


@dataclass(frozen=True)
class Broken:
    """A registered study that cannot be loaded."""

    name: str
    why: str


def find(name: str) -> Study:
    """Load the study of that name.

    Raises:
        UserError: if no package or several packages have a study of that name, or the package cannot be loaded.
    """
    known = _by_name()
    if name not in known:
        raise UserError(f'study "{name}" is not known{nearest(name, known)} (distdl study list shows all)')
    study = _load(name, known[name])
    if isinstance(study, Broken):
        raise UserError(f'study "{name}" cannot be loaded: {study.why}')
    return study


def every() -> list[Study | Broken]:
    """Load all registered studies, sorted by name; a study that cannot be loaded is returned as `Broken`."""
    return [_load(name, entries) for name, entries in sorted(_by_name().items())]


def _by_name() -> dict[str, list[EntryPoint]]:
    known: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        # A package that is on the path twice (an editable install and a built one) counts once.
        if entry not in known.setdefault(entry.name, []):
            known[entry.name].append(entry)
    return known


def _load(name: str, entries: list[EntryPoint]) -> Study | Broken:
    if len({entry.value for entry in entries}) > 1:
        return Broken(
            name, f"several packages have a study of that name: {', '.join(map(_package, entries))}; remove one"
        )
    entry = entries[0]
    try:
        study = entry.load()
    except Exception as error:  # importing another package may raise anything
        message = " ".join(str(error).split())
        return Broken(name, f"{_package(entry)}, {entry.value}: {type(error).__name__}: {message}")
    if not isinstance(study, Study):
        return Broken(name, f"{_package(entry)}: {entry.value} is not a distdl.studies.base.Study, but {study!r:.40}")
    if study.name != name:
        return Broken(name, f'{_package(entry)}: the study at {entry.value} has the name "{study.name}"')
    return study


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without a name"

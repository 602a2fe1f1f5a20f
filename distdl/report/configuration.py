"""A run's configuration, what it changed of the profile that it came from, and the machine that it ran on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.format import Cell, written
from distdl.core.profiles import DEFAULT_PROFILE, as_table, profiles, read_profile, validate
from distdl.core.registry import rows
from distdl.report.content import Section, Table
from distdl.report.run_folder import Run

UNSET = "(not set)"


def configuration(run: Run) -> Section:
    """What the run changed, and all that it was told."""
    own = dict(leaves(run.config))
    if not own:
        return Section(title="Configuration", text="config.toml is missing or damaged.")
    parent, base = _parent(run)
    changed = [
        (key, cell(base.get(key, UNSET)), cell(own.get(key, UNSET)))
        for key in dict.fromkeys([*own, *base])
        if key != "name" and own.get(key, UNSET) != base.get(key, UNSET)
    ]
    text = f"All as in {parent}." if not changed else ""
    whole = Table(
        name="configuration",
        title="The whole configuration",
        columns=("field", "value"),
        rows=tuple((key, cell(value)) for key, value in own.items()),
    )
    differences = Table(
        name="changed",
        title=f"Changed from {parent}",
        columns=("field", "there", "here"),
        rows=tuple(changed),
    )
    return Section(title="Configuration", text=text, parts=((differences, whole) if changed else (whole,)))


def compared(runs: Sequence[Run]) -> Section:
    """The fields in which runs differ."""
    tables = [dict(leaves(run.config)) for run in runs]
    rows = [
        (key, *(cell(table.get(key, UNSET)) for table in tables))
        for key in dict.fromkeys(key for table in tables for key in table)
        if len({str(table.get(key, UNSET)) for table in tables}) > 1
    ]
    if not rows:
        return Section(title="Configuration", text="The runs have the same configuration.")
    columns = ("field", *(run.label for run in runs))
    table = Table(name="configuration", title="Fields that differ", columns=columns, rows=tuple(rows))
    return Section(title="Configuration", parts=(table,))


def machine(runs: Sequence[Run]) -> Section | None:
    """Host, devices and versions, a column for each run."""
    tables = [dict(_environment(run.environment)) for run in runs]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    if not keys:
        return None
    rows = tuple((key, *(table.get(key) for table in tables)) for key in keys)
    columns = ("", *(run.label for run in runs)) if len(runs) > 1 else ("", "here")
    return Section(title="Environment", parts=(Table(name="environment", title="", columns=columns, rows=rows),))


def _environment(found: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    for key in ("started", "host", "platform", "cores"):
        if found.get(key) is not None:
            yield key, cell(found[key])
    memory = found.get("memory_bytes")
    if isinstance(memory, int):
        yield "memory", f"{memory / 2**30:.1f} GiB"
    gpus = found.get("gpus")
    if isinstance(gpus, list) and gpus:
        names = [str(gpu) for gpu in gpus]
        yield "GPUs", ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    for key in ("python", "cuda"):
        if found.get(key) is not None:
            yield key, cell(found[key])
    if isinstance(found.get("packages"), dict):
        yield from ((str(name), cell(version)) for name, version in found["packages"].items())


def _parent(run: Run) -> tuple[str, dict[str, Any]]:
    """The profile that the run was started with, as its fields; distdl's defaults where that is not known."""
    name = _profile(run)
    if name:
        try:
            table, _ = read_profile(name)
            return f'profile "{name}"', _fields(validate(table, where=name), run)
        except UserError:
            pass  # it has changed or gone since
    return "distdl's defaults", _fields(Config(), run)


def _fields(config: Config, run: Run) -> dict[str, Any]:
    return dict(leaves(as_table(config, run.strategy if run.strategy in rows("strategies") else "single")))


def _profile(run: Run) -> str | None:
    words = run.environment.get("command")
    words = [str(word) for word in words] if isinstance(words, list) else []
    for index, word in reversed(list(enumerate(words))):
        option, equals, value = word.partition("=")
        if option == "--profile":
            return value if equals else words[index + 1] if index + 1 < len(words) else None
    own = str(run.config.get("name", ""))
    # Without the option a training takes the default profile.
    trained = any(word == "train" or word.endswith(("train.py", "distdl.train")) for word in words[:2])
    return own if own in profiles() else DEFAULT_PROFILE if trained else None


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def cell(value: Any) -> Cell:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {written(cell(one))}" for key, one in value.items()) or "(none)"
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        return "; ".join(written(cell(one)) for one in value)
    if isinstance(value, list | tuple):
        return ", ".join(written(cell(one)) for one in value) or "(none)"
    if value is None or isinstance(value, str | int | float | bool):
        return "(none)" if value == "" else value
    return str(value)

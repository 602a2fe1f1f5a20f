"""A run's configuration, its differences from the profile that it started from, and its machine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.format import Cell, written
from distdl.core.layering import leaves
from distdl.core.profiles import DEFAULT_PROFILE, as_table, profiles, read_profile, validate
from distdl.core.registry import rows
from distdl.report.content import Section, Table
from distdl.report.run_folder import Run

UNSET = "(not set)"


def configuration(run: Run) -> Section:
    """Return the section with differences from the profile and the complete configuration."""
    fields = _values(run.config)
    if not fields:
        return Section(title="Configuration", text="config.toml is missing or damaged.")
    parent, base = _parent(run)
    changed = [
        (key, cell(base.get(key, UNSET)), cell(fields.get(key, UNSET)))
        for key in dict.fromkeys([*fields, *base])
        if key != "name" and fields.get(key, UNSET) != base.get(key, UNSET)
    ]
    text = "" if changed else f"The same as {parent}."
    complete = Table(
        name="configuration",
        title="Complete configuration",
        columns=("field", "value"),
        rows=tuple((key, cell(value)) for key, value in fields.items()),
    )
    differences = Table(
        name="changed",
        title=f"Changed from {parent}",
        columns=("field", "before", "this run"),
        rows=tuple(changed),
    )
    return Section(title="Configuration", text=text, parts=((differences, complete) if changed else (complete,)))


def compared(runs: Sequence[Run]) -> Section:
    """Return the section with the fields in which runs differ."""
    tables = [_values(run.config) for run in runs]
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
    """Return the section with host, devices and versions, one column per run; None if nothing is known."""
    tables = [dict(_environment(run.environment)) for run in runs]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    if not keys:
        return None
    rows = tuple((key, *(table.get(key) for table in tables)) for key in keys)
    columns = ("", *(run.label for run in runs)) if len(runs) > 1 else ("", "this run")
    return Section(title="Environment", parts=(Table(name="environment", title="", columns=columns, rows=rows),))


def _environment(environment: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    for key in ("started", "host", "platform", "cores"):
        if environment.get(key) is not None:
            yield key, cell(environment[key])
    memory = environment.get("memory_bytes")
    if isinstance(memory, int):
        yield "memory", f"{memory / 2**30:.1f} GiB"
    gpus = environment.get("gpus")
    if isinstance(gpus, list) and gpus:
        names = [str(gpu) for gpu in gpus]
        yield "GPUs", ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    for key in ("python", "cuda"):
        if environment.get(key) is not None:
            yield key, cell(environment[key])
    if isinstance(environment.get("packages"), dict):
        yield from ((str(name), cell(version)) for name, version in environment["packages"].items())


def _parent(run: Run) -> tuple[str, dict[str, Any]]:
    """Name and fields of the profile that the run used; distdl's defaults if the profile is unknown."""
    name = _profile(run)
    if name:
        try:
            table, _ = read_profile(name)
            return f'profile "{name}"', _fields(validate(table, where=name), run)
        except UserError:
            pass  # changed or deleted since
    return "distdl's defaults", _fields(Config(), run)


def _fields(config: Config, run: Run) -> dict[str, Any]:
    return _values(as_table(config, run.strategy if run.strategy in rows("strategies") else "single"))


def _profile(run: Run) -> str | None:
    command = run.environment.get("command")
    argv = [str(argument) for argument in command] if isinstance(command, list) else []
    for index, argument in reversed(list(enumerate(argv))):
        option, equals, value = argument.partition("=")
        if option == "--profile":
            return value if equals else argv[index + 1] if index + 1 < len(argv) else None
    name = str(run.config.get("name", ""))
    # Without the option a training uses the default profile.
    is_training = any(argument == "train" or argument.endswith(("train.py", "distdl.train")) for argument in argv[:2])
    return name if name in profiles() else DEFAULT_PROFILE if is_training else None


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    """Value of each field by its dotted name, also inside tables of options."""
    return dict(leaves(table, tables=()))


def cell(value: Any) -> Cell:
    """A configuration value as the cell of a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {written(cell(item))}" for key, item in value.items()) or "(none)"
    if isinstance(value, list | tuple):
        separator = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return separator.join(written(cell(item)) for item in value) or "(none)"
    if value is None or isinstance(value, str | int | float | bool):
        return "(none)" if value == "" else value
    return str(value)

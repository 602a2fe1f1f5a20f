"""An invalid value for any field of any settings class is a one-line error with its name, and exit code 2.

The classes are those of the subcommands' functions, the registered studies and the components' factories. The values
The classes are those of the functions of subcommands, the registered studies and the component factories. The values
`tests/core/test_config.py` does the same for `Config`.
"""

import dataclasses
import functools
import importlib
import inspect
import json
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w
import tyro

from distdl.cli.__main__ import VERBS, main
from distdl.cli.arguments import parse
from distdl.cli.parameters import MAY_BE_EMPTY
from distdl.cli.study import own_options, run
from distdl.core import factories, registry, targets
from distdl.core.components import COMPONENTS
from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.perf.speed import fit_speed
from distdl.perf.speed.read_speeds import read
from distdl.studies.base import Study
from distdl.studies.runner import catalog
from distdl.studies.runner.settings import resolve
from example_result import RUN
from invalid_values import as_arguments, fields, invalid, out_of_range, valid

STUDIES = {name: catalog.find(name) for name in registry.rows("studies")}
PARSE_ALONE = {"study run": run}
"""Subcommands that parse their arguments themselves, and the parsed function; train parses for `Config`."""


def check_message(error: pytest.ExceptionInfo[UserError], name: str, value: Any) -> None:
    message = str(error.value)
    assert (
        name.replace("-", "_") in message.replace("-", "_") and message.isprintable() and "nput should" not in message
    ), (
        message,
        value,
    )


@pytest.mark.parametrize(
    ("study", "name"),
    [(study, name) for study in STUDIES for name, _ in fields(STUDIES[study].settings)],
)
class TestStudies:
    def test_a_profile(self, study: str, name: str) -> None:
        for value in invalid(dict(fields(STUDIES[study].settings))[name]):
            Path("mine.toml").write_bytes(tomli_w.dumps({name: value}).encode())
            with pytest.raises(UserError) as error:
                resolve(STUDIES[study], profile="mine.toml")
            check_message(error, name, value)

    def test_the_command_line(self, study: str, name: str) -> None:
        kind: Study[Any] = STUDIES[study]
        for value in out_of_range(dict(fields(kind.settings))[name]):
            texts = as_arguments(value)
            if texts is None or (texts == [""] and isinstance(value, list)):
                continue  # an empty text is an empty list
            argv = own_options([study, f"--{name}={','.join(texts)}"], kind)
            if name == "profile":
                argv = [study, "--set", f"profile={texts[0]}"]  # --profile is first a profile of the study
            with pytest.raises(UserError) as error:
                resolve(kind, assignments=argv[argv.index("--set") + 1 :])
            check_message(error, name, value)


def test_overrides_of_a_study_are_checked_before_its_first_trial() -> None:
    for table, message in (
        ({"optim.lrr": 0.1}, '"optim.lrr" is not a key of distdl; did you mean "optim.lr"?'),
        ({"optim": {"lr": -1.0}}, "overrides.optim.lr = -1.0: must be at least 0"),
        ({"epochs": "3"}, "overrides.epochs: '3' is not a whole number"),
    ):
        Path("mine.toml").write_bytes(tomli_w.dumps({"overrides": table}).encode())
        with pytest.raises(UserError) as error:
            resolve(STUDIES["transfer"], profile="mine.toml")
        assert message in str(error.value)


class Option(NamedTuple):
    """An option of a subcommand that takes a value."""

    verb: str
    parameter: str
    flag: str
    """Empty for a positional value."""
    kind: Any

    @property
    def label(self) -> str:
        """Its name in a message."""
        return self.flag.strip("-").replace("-", "_") or self.parameter.upper()


def function_of(verb: str) -> Callable[..., Any]:
    if verb in PARSE_ALONE:
        return PARSE_ALONE[verb]
    module, _, attribute = VERBS[verb].target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def plain(kind: Any) -> Any:
    """A type without its markers, such as the names of an option in other programs."""
    return plain(kind.__origin__) if hasattr(kind, "__metadata__") else kind


@functools.cache
def options(verb: str) -> tuple[Option, ...]:
    """Options of a subcommand that take a value, which flags do not."""
    function, listed = function_of(verb), []
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        markers = getattr(kind, "__metadata__", ())
        name = next((each.name for each in markers if getattr(each, "name", None)), parameter.name)
        positional = parameter.kind is parameter.POSITIONAL_ONLY or tyro.conf.Positional in markers
        inner = fields(kind, f"{name}.") if dataclasses.is_dataclass(kind) else [(name, kind)]
        for dotted, each in inner:
            if each is not bool and getattr(each, "__origin__", None) is not bool:
                flag = "" if positional else f"--{dotted.replace('_', '-')}"
                listed.append(Option(verb, parameter.name, flag, each))
    return tuple(listed)


def command_line(option: Option, texts: list[str]) -> list[str]:
    """Arguments of a subcommand: `texts` for one option, and valid values for the required ones and those before it."""
    positional, rest = [], []
    parameters = inspect.signature(function_of(option.verb)).parameters
    listed = options(option.verb)
    for place, each in enumerate(listed):
        is_before = not option.flag and not each.flag and place < listed.index(option)
        if each == option or is_before or parameters[each.parameter].default is inspect.Parameter.empty:
            values = texts if each == option else as_arguments(valid(each.kind)) or []
            if not each.flag:
                positional += values
            else:
                rest += [f"{each.flag}={values[0]}"] if len(values) == 1 else [each.flag, *values]
    return [*positional, *rest]


class Accepted(Exception):
    """The arguments were accepted, and the subcommand would have run."""


OPTIONS = [option for verb in VERBS if verb != "train" for option in options(verb)]


def test_options_and_studies_are_found() -> None:
    assert {"train", *PARSE_ALONE} == {name for name, verb in VERBS.items() if verb.raw}
    assert len(OPTIONS) > 130 and len(STUDIES) >= 9


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.verb} {option.label}")
def test_an_invalid_value_of_an_option_is_refused(option: Option) -> None:
    """The types refuse the value before the subcommand is called; an empty one is refused whatever the type."""

    @functools.wraps(function_of(option.verb))
    def accept(*args: Any, **named: Any) -> None:
        raise Accepted

    empty = () if not option.flag or MAY_BE_EMPTY in getattr(option.kind, "__metadata__", ()) else ("",)
    for value in (*out_of_range(option.kind), *empty):
        if (texts := as_arguments(value)) is not None:
            with pytest.raises(UserError) as error:
                parse(accept, command_line(option, texts), prog=f"distdl {option.verb}")
            check_message(error, option.label, value)


VALID = {
    "flops": "digits-cnn",
    "paleo": "digits-cnn --device k80",
    "profile": "digits-cnn",
    "fit speed": "speeds.csv",
    "predict speed": "fit.json --servers 2 --workers 2",
    "explain": "run",
    "launch": "--dry-run -- --epochs 1",
    "hosts": "--count 1 -- true",
    "submit": "--dry-run",
    "slurm begin": "-- --out run --resume auto",
    "slurm end": "--code 0 -- --out run --resume auto",
    "verify-resume": "--steps 2",
    "probe network": "--nproc 1",
    "list": "models",
    "models list": "",
    "data describe": "digits",
    "data verify": "digits",
    "data pack": "digits --out packed --format shards",
    "data export": "digits --out exported --format jpeg",
    "data bench": "digits",
    "study run": "decathlon",
}
"""Valid arguments of the subcommands with options in a special notation."""
FREE = ("slurm end state", "study run slurm")
"""Text that distdl does not interpret."""
TEXTS = [
    option
    for option in OPTIONS
    if option.flag and plain(option.kind) in (str, tuple[str, ...]) and f"{option.verb} {option.label}" not in FREE
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files that `VALID` names."""
    folder = tmp_path_factory.mktemp("files")
    rows = [(s, w, 64, 1 / (0.01 + 0.1 / w + 0.02 * w / s)) for s in (1, 2, 3) for w in (1, 2, 3, 4)]
    lines = ["servers,workers,batch_size,steps_per_s", *(",".join(map(str, row)) for row in rows)]
    (folder / "speeds.csv").write_text("\n".join(lines))
    fit = fit_speed(read([folder / "speeds.csv"]), "optimus-sync")
    (folder / "fit.json").write_text(json.dumps(fit.as_dict()))
    (folder / "run").mkdir()
    (folder / "run" / "result.json").write_text(json.dumps(RUN))
    (folder / "run" / "config.toml").write_text("")
    return folder


@pytest.mark.parametrize("text", ["no\x1b[31m such", "é\n", "", " "])
@pytest.mark.parametrize("option", TEXTS, ids=lambda option: f"{option.verb} {option.label}")
def test_a_text_that_is_not_in_the_notation_of_an_option_is_refused(
    option: Option, text: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    if not text and MAY_BE_EMPTY in getattr(option.kind, "__metadata__", ()):
        return
    argv, dashes, inner = VALID[option.verb].partition("-- ")
    assert main([*option.verb.split(), *argv.split(), f"{option.flag}={text}", *dashes.split(), *inner.split()]) == 2
    message = capsys.readouterr().err
    assert option.label in message.replace("-", "_") and message.startswith("error: "), message
    assert message.count("\n") == 1 and message.strip().isprintable(), message


@pytest.mark.parametrize(
    ("kind", "read"), [(hardware.Device, hardware.device), (hardware.NetworkLink, hardware.network)]
)
def test_an_invalid_value_in_a_data_sheet_is_refused(kind: type, read: Callable[[str], Any]) -> None:
    sheet = {"name": "mine", "bandwidth_gb_per_s": 1.0, "peak_tflops": {"fp32": 1.0}}
    if kind is hardware.NetworkLink:
        sheet = {"name": "mine", "bandwidth_gbit_per_s": 1.0}
    for name, hint in fields(kind):
        for value in invalid(hint):
            Path("mine.toml").write_bytes(tomli_w.dumps(sheet | {name: value}).encode())
            with pytest.raises(UserError) as error:
                read("mine.toml")
            check_message(error, name, value)


def component_settings() -> Iterator[tuple[str, str, str, Any]]:
    """Settings of distdl's components that are not fields of `Config`: parameters with a default."""
    for group, rows in COMPONENTS.items():
        for name, row in rows.items():
            component = targets.load(row.factory, group)
            target = component.__init__ if isinstance(component, type) else component
            filled = {use.rpartition(".")[2] for use in row.uses}
            for parameter in inspect.signature(target).parameters.values() if callable(component) else ():
                if parameter.default is not parameter.empty and parameter.name not in filled:
                    yield (
                        group,
                        name,
                        parameter.name,
                        typing.get_type_hints(target, include_extras=True)[parameter.name],
                    )


@pytest.mark.parametrize(("group", "component", "name", "kind"), list(component_settings()))
def test_an_invalid_setting_of_a_component_is_refused(group: str, component: str, name: str, kind: Any) -> None:
    factory = factories.get(group, component)
    parameters = inspect.signature(factory.call).parameters.items()
    required = [each for each, parameter in parameters if parameter.default is parameter.empty]
    for value in out_of_range(kind):
        with pytest.raises(UserError) as error:
            factory.settings({name: value}, named=required)
        check_message(error, f"{component if factory.kind.several else factory.kind.name}.{name}", value)

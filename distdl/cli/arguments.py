"""Parse a command line by the signature of a function or the fields of a dataclass. Every error is one line.

tyro assigns the arguments to options and prints the help. Values are passed on as text, so that
`distdl.core.validation` converts and checks them with the same messages as those of a profile. tyro reports errors as
values (`tyro._errors`, private: setup.py bounds tyro's version).

If an option is given several times, the last one wins, as in argparse. An option with any number of values collects
them: `--sbatch a=1 --sbatch b=2` is `--sbatch a=1 b=2`, and `--sbatch` without a value removes the earlier ones.
"""

import dataclasses
import inspect
import itertools
import types
import typing
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, NotRequired, Required, TypedDict

from distdl.cli.after_dashes import misplaced
from distdl.cli.parameters import (
    MAY_BE_EMPTY,
    POSITIONAL_ONLY,
    any_number,
    flag_name,
    meaning,
    option_of,
    switch_of,
    value_count,
)
from distdl.core.errors import UserError, as_literal, nearest

HELP = ("-h", "--help")
_TypedDict: Callable[..., Any] = TypedDict
"""A type checker knows only static TypedDicts; these are made of computed fields."""
TRAINING = "arguments"
"""Name of the parameter of a verb with the arguments of a training, after `--`."""
_NUMBER = "a number"
"""Marks the text of an option that is later converted to a number."""


def take_flag(argv: Sequence[str], flag: str) -> tuple[bool, list[str]]:
    """Whether `flag` is among the options, and the arguments without it. Arguments after `--` are of another command.

    A value never looks like an option, so that a flag cannot be a value.
    """
    end = list(argv).index("--") if "--" in argv else len(argv)
    options = [argument for argument in argv[:end] if argument != flag]
    return len(options) < end, [*options, *argv[end:]]


def asks_for_help(argv: Sequence[str]) -> bool:
    return any(take_flag(argv, flag)[0] for flag in HELP)


def parse(function: Callable[..., Any], argv: Sequence[str], prog: str = "", known: Iterable[str] = ()) -> Any:
    """Call `function` with the arguments of a command line.

    Args:
        prog: the command, for its help.
        known: further options that an error may suggest.
    Raises:
        UserError: for wrong arguments, with the nearest option. Exceptions of the function are not caught.
    """
    if asks_for_help(argv):
        from distdl.cli.help import show_help

        show_help(function, prog)
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    values = _match({each.name: _argument(each, hints[each.name]) for each in parameters}, argv, prog, known)
    _refuse_empty(function, values, hints)
    from distdl.core.validation import check

    for each in parameters:  # given fields of a dataclass override those of the default
        default = each.default
        if dataclasses.is_dataclass(default) and not isinstance(default, type) and each.name in values:
            values[each.name] = dataclasses.asdict(default) | values[each.name]
    checked = {name: check(hints[name], value, _shown_name(name, hints[name])) for name, value in values.items()}
    positional = [checked.pop(each.name) for each in parameters if each.kind is POSITIONAL_ONLY]
    return function(*positional, **checked)


def _refuse_empty(function: Callable[..., Any], values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Refuse an option with an empty value, such as that of an unset shell variable, with its meaning.

    Its default may be an empty text, so that its type would accept it.
    """
    for name in values:
        flag = flag_name(name, hints[name])
        is_empty = "" in values[name] if isinstance(values[name], list | tuple) else values[name] == ""
        if is_empty and flag is not None and MAY_BE_EMPTY not in _markers(hints[name]):
            raise UserError(f"{flag} is empty: give it a value, or omit it ({meaning(function, name)})")


def overrides(kind: type, argv: Sequence[str], prog: str, **extra: Any) -> dict[str, Any]:
    """The fields of the dataclass `kind` that a command line sets: a nested table of unchecked text and flags.

    Args:
        extra: names and types of options in addition to the fields.
    Raises:
        UserError: for an unknown option or a missing value.
    """
    return _match(extra | _fields(kind), argv, prog)


@dataclass(frozen=True)
class OtherNames:
    """Marks an option with its names in other programs, which an error about them suggests it for."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, *names: str) -> "OtherNames":
        return cls(names)


def _match(options: dict[str, Any], argv: Sequence[str], prog: str, known: Iterable[str] = ()) -> dict[str, Any]:
    import tyro
    from tyro import _errors

    def refuse(event: _errors.ParseErrorEvent) -> NoReturn:
        from distdl.core.config import Config

        training = _options({"profile": str, **_fields(Config)}) if TRAINING in options else ()
        raise UserError(_message(event, argv, _options(options), list(known), prog, training))

    joined = _joined(argv, {flag for flag, hint in _options(options).items() if any_number(hint)})
    with _errors.on_parse_error(refuse):
        values = tyro.cli(_table(options), args=joined, prog=prog or None)
    if TRAINING in values and "--" in argv and (surplus := _before_training(values[TRAINING], argv)):
        message = _surplus_value(surplus, argv, _options(options)) or f"Unrecognized arguments: {surplus}"
        raise UserError(f"{message} ({prog} --help shows all)")
    return values


def _before_training(values: Sequence[str], argv: Sequence[str]) -> str:
    """The first value that is before `--` although only arguments of the training may have no option; else empty."""
    count = len(values) - len(argv[list(argv).index("--") + 1 :])
    return values[0] if count > 0 else ""


def _joined(argv: Sequence[str], several: Container[str]) -> list[str]:
    """The arguments, with the values of each repeated option of `several` collected at the end."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    mentions = Counter(option_of(argument) for argument in argv[:end])
    repeated = {option for option, times in mentions.items() if times > 1 and option in several}
    rest: list[str] = []
    values: dict[str, list[list[str]]] = {option: [] for option in repeated}
    into = rest
    for argument in argv[:end]:
        _, equals, value = argument.partition("=")
        if argument.startswith("--"):
            into = rest
        if argument.startswith("--") and option_of(argument) in repeated:
            values[option_of(argument)].append([value] if equals else (into := []))
        else:
            into.append(argument)
    for option, mentioned in values.items():
        empty = [place for place, texts in enumerate(mentioned) if not texts]
        rest += [option, *(value for texts in mentioned[max(empty, default=0) :] for value in texts)]
    return [*rest, *argv[end:]]


def _group(hint: Any) -> list[str]:
    """Kinds of the values of a group, for an option that takes groups of values; else empty."""
    inner = typing.get_args(hint)[:1]
    parts = typing.get_args(inner[0]) if inner and typing.get_origin(inner[0]) is tuple else ()
    return ["a number" if _NUMBER in getattr(part, "__metadata__", ()) else "text" for part in parts]


def _message(
    event: Any,
    argv: Sequence[str],
    options: dict[str, Any],
    known: Sequence[str],
    prog: str,
    training: Collection[str] = (),
) -> str:
    from tyro import _errors

    more, known = f" ({prog} --help shows all)" if prog else "", [*options, *known]
    unrecognized = _before_dashes(getattr(event, "tokens", ()), argv) or _unknown_options(argv, known)
    unrecognized = _not_of_training(unrecognized, argv) if training else unrecognized
    if switch := _switch_with_value(unrecognized, argv, options):
        section, dot, name = switch.removeprefix("--").rpartition(".")
        return f"{switch} takes no value: write {switch} or --{section}{dot}no-{name}"
    match event:
        case _errors.UnrecognizedArgs() | _errors.MissingArgs() | _errors.BadValue() if unrecognized:
            option = next((token for token in unrecognized if token.startswith("-")), "").partition("=")[0]
            if surplus := "" if option else _surplus_value(unrecognized[0], argv, options):
                return surplus + more
            takes_value = {flag: not _is_switch(hint) for flag, hint in options.items()}
            if message := misplaced(option, training, argv, takes_value, prog):
                return message
            hint = _suggestion(option, options, [*known, *training])
            return f"Unrecognized {'options' if option else 'arguments'}: {', '.join(unrecognized)}{hint or more}"
        case _errors.MissingArgs():
            names = ", ".join(_name(missing.arg) for missing in event.missing_arguments)
            return f"missing: {names}{more}"
        case _errors.BadValue():
            count = event.argument.lowered.nargs
            return f"{_name(event.argument)} needs {'a value' if count == 1 else f'{count} values'}"
        case _errors.InvalidChoice():
            listed, typed = ", ".join(map(repr, event.choices)), as_literal(event.value)
            return f"{_name(event.argument)}: {typed} is not one of {listed}{nearest(event.value, event.choices)}"
        case _errors.InstantiationFailure(argument=argument) if argument is not None:
            if group := _group(options.get(_name(argument))):
                return f"{_name(argument)} takes groups of {len(group)} values, each {' and '.join(group)}"
            return f"{_name(argument)}: {event.message}"
    return f"the arguments cannot be parsed ({type(event).__name__}){more}"


def _before_dashes(tokens: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The tokens without those after `--`, which are of another command."""
    remaining = Counter(argv[: list(argv).index("--") if "--" in argv else len(argv)])
    remaining.update(argument.partition("=")[2] for argument in list(remaining))
    return [token for token in tokens if remaining[token] > 0] or list(tokens)


def _not_of_training(unrecognized: list[str], argv: Sequence[str]) -> list[str]:
    """The value before the options of a command with a training: tyro refuses the training's arguments instead."""
    has_value = "--" in argv and not argv[0].startswith("-")
    return [argv[0]] if unrecognized and has_value else unrecognized


def _switch_with_value(values: Sequence[str], argv: Sequence[str], options: dict[str, Any]) -> str:
    """The switch that the first of the values follows, such as `--json` before `true`; else empty."""
    pairs = [(first, second) for first, second in itertools.pairwise(argv) if "=" not in first]
    pairs += [(option, value) for option, equals, value in (each.partition("=") for each in argv) if equals]
    switches = {flag for flag, hint in options.items() if _is_switch(hint)}
    for option, value in pairs:
        flag = switch_of(option)
        if value in values[:1] and not value.startswith("-") and flag in switches:
            return flag
    return ""


def _surplus_value(value: str, argv: Sequence[str], options: dict[str, Any]) -> str:
    """A message if the value follows an option that has all of its values; else empty."""
    for flag, hint in options.items():
        count = value_count(hint)
        for place, argument in enumerate(argv):
            rest = argv[place + ("=" not in argument) :]
            if option_of(argument) == flag and count < len(rest) and rest[count] == value:
                values = "one value" if count == 1 else f"{count} values"
                return f"{flag} takes {values}: {as_literal(value)} is too many"
    return ""


def _is_switch(hint: Any) -> bool:
    wrapped = typing.get_origin(hint) in (Annotated, Required, NotRequired)
    return _is_switch(typing.get_args(hint)[0]) if wrapped else hint is bool


def _suggestion(option: str, options: dict[str, Any], known: Sequence[str]) -> str:
    """`; did you mean --nproc?` for an option, by its names in other programs or by the nearest name; else empty."""
    name = option_of(option).lstrip("-").casefold()
    for flag, hint in options.items():
        if any(name in marker.names for marker in _markers(hint) if isinstance(marker, OtherNames)):
            return f"; did you mean {flag}?"
    if (section := option.removesuffix(".name")) != option and section in known:
        return f"; did you mean {section}?"
    return nearest(option, known, quote="")


def _markers(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (Required, NotRequired):
        return _markers(typing.get_args(hint)[0])
    return getattr(hint, "__metadata__", ())


def _unknown_options(argv: Sequence[str], known: Sequence[str]) -> list[str]:
    """Options that do not exist: tyro may first report a missing argument before them."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    options = [argument for argument in argv[:end] if argument.startswith("--")]
    flags = {flag.replace("_", "-") for flag in known}
    return [each for each in options if switch_of(each) not in flags][:1]


def _name(argument: Any) -> str:
    return argument.lowered.name_or_flags[0] if not argument.is_positional() else argument.field.extern_name.upper()


def _shown_name(name: str, hint: Any) -> str:
    flag = flag_name(name, hint)
    return name.upper() if flag is None else flag


def _options(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Types of the options by flag, including those of tables."""
    flags: dict[str, Any] = {}
    for name, hint in options.items():
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) in (Required, NotRequired) else hint
        if typing.is_typeddict(inner):
            flags |= _options(typing.get_type_hints(inner, include_extras=True), f"{prefix}{name.replace('_', '-')}.")
        elif (flag := flag_name(prefix + name, inner)) is not None:
            flags[flag] = inner
    return flags


def _argument(parameter: inspect.Parameter, hint: Any) -> Any:
    import tyro

    is_section = isinstance(hint, type) and dataclasses.is_dataclass(hint)
    kind = _TypedDict(parameter.name, _fields(hint), total=False) if is_section else _as_text(hint)
    if parameter.kind is POSITIONAL_ONLY and tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
        kind = tyro.conf.Positional[kind]
    return Required[kind] if parameter.default is parameter.empty else NotRequired[kind]


def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: _table(_fields(hints[field.name]))
        if dataclasses.is_dataclass(hints[field.name])
        else _as_text(hints[field.name])
        for field in dataclasses.fields(kind)
    }


def _table(options: dict[str, Any]) -> Any:
    """The type of a table of the given options."""
    table = _TypedDict("Options", options, total=False)
    table.__module__ = "distdl"  # a short module: tyro parses the module of a class for comments
    return table


def _as_text(kind: Any) -> Any:
    """The type with text instead of numbers, choices and paths, which are converted later."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float):
        return Annotated[str, _NUMBER]
    if origin is Literal or kind is Path:
        return str
    if origin is Mapping:
        return tuple[str, ...]  # KEY.NAME=VALUE
    if origin is Annotated:
        return Annotated[_as_text(inner[0]), *kind.__metadata__]
    if origin in (tuple, list):
        return types.GenericAlias(origin, tuple(part if part is ... else _as_text(part) for part in inner))
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_as_text(part) for part in inner)]  # noqa: UP007 - of computed parts
    return kind

"""The help of a verb: usage and description, then the boxes of tyro, in the width of the terminal."""

import contextlib
import functools
import inspect
import io
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NoReturn, TextIO

from distdl.cli.parameters import POSITIONAL_ONLY, any_number, flag_name
from distdl.core.errors import EXIT_DONE

AFTER_DASHES = ("arguments", "command")
"""Parameters that are arguments of another command, after `--`."""
_END = "END OF THE DESCRIPTION"


def show_help(target: Any, prog: str, *, usage: str = "", description: str = "", **options: Any) -> NoReturn:
    """Print the help and exit. Lines are at most as long as the terminal is wide.

    Args:
        target: a function, or a dataclass whose fields are options.
        usage: the first line, instead of the command's.
        description: text below the usage; by default that of the docstring.
    """
    text = description or inspect.getdoc(target) or ""
    text = re.split(r"\n(?:Args|Returns|Raises):\n", text)[0].strip()
    width = max(shutil.get_terminal_size().columns, 40)
    printed = _LikeStdout(sys.stdout)
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        _print_help(target, prog, options | {"description": _END})  # the lines of tyro's own text are of any length
    boxes = printed.text().partition(_END)[2].partition("\n")[2].lstrip("\n")
    print(_wrapped(usage or _usage(target, prog), width, indent=" " * len("usage: ")), end="\n\n")
    print(*(_wrapped(part, width) for part in re.split(r"\n\s*\n", text)), sep="\n\n", end="\n\n")
    print(boxes, end="")
    raise SystemExit(EXIT_DONE)


class _LikeStdout(io.TextIOWrapper):
    """A buffer for which a program chooses the same colors and characters as for `stream`."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(io.BytesIO(), encoding=stream.encoding, errors=stream.errors)
        self._is_terminal = stream.isatty()

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        """All that was written so far."""
        self.seek(0)
        return self.read()


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _usage(target: Any, prog: str) -> str:
    """The line of the usage: positional arguments by name, required options, and arguments after `--`."""
    command, options, rest = [f"usage: {prog}"], ["[OPTIONS]"], []
    if inspect.isfunction(target):
        hints = typing.get_type_hints(target, include_extras=True)
        for each in inspect.signature(target).parameters.values():
            hint, required = hints[each.name], each.default is each.empty
            flag = None if each.kind is POSITIONAL_ONLY else flag_name(each.name, hint)
            if each.name in AFTER_DASHES:
                rest = ["--", f"{each.name.upper()}..."]
            elif flag is None:
                name = each.name.upper() + "..." * any_number(hint)
                command.append(name if required else f"[{name}]")
            elif required:
                command += [flag, each.name.rstrip("_").upper()]
    return " ".join([*command, *options, *rest])


def _print_help(target: Any, prog: str, options: dict[str, Any]) -> None:
    import tyro

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def table(hint: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if typing.get_origin(hint.type) is not Mapping:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="KEY.NAME=VALUE",
            instance_from_str=list,
            is_instance=lambda value: isinstance(value, Mapping),
            str_from_instance=lambda value: [
                f"{key}.{name}={each}" for key in value for name, each in value[key].items()
            ],
        )

    if inspect.isfunction(target):
        target = _with_names(target)
    tyro.cli(target, args=["--help"], prog=prog or None, registry=registry, **options)


def _with_names(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the same options whose positional arguments are shown by name."""
    import tyro

    def copy(*args: Any, **options: Any) -> None: ...

    functools.update_wrapper(copy, function)
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for each in inspect.signature(function).parameters.values():
        hint = hints[each.name]
        if each.kind is POSITIONAL_ONLY or flag_name(each.name, hint) is None:
            hint = Annotated[hint, tyro.conf.Positional, tyro.conf.arg(metavar=each.name.upper())]
        parameters.append(each.replace(annotation=hint))
    copy.__annotations__ = {each.name: each.annotation for each in parameters}
    copy.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    vars(copy).pop("__wrapped__")
    return copy

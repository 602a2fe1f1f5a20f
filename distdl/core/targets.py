"""Components without a row: find and import "package.module:callable".

Modules of the current folder can be imported too, as with `python -m`; Python does not add it to the path of the
program `distdl`.
"""

import ast
import functools
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from distdl.core.contracts import is_protocol, missing_methods
from distdl.core.errors import MOST_MATCHES, UserError, close_matches, suggestion
from distdl.core.kinds import Kind, Row
from distdl.core.paths import current_folder

TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""The notation of a target: "package.module:callable"."""


def load(target: str, where: str, usable: Callable[[Any], bool] = callable) -> Any:
    """Import "package.module:attribute".

    Args:
        where: field or option that named it, for the message.
        usable: predicate of the objects that a message may suggest.
    Raises:
        UserError: if it cannot be imported, with the reason.
    """
    module_name, _, attribute = target.partition(":")
    if reason := no_module(target):
        raise UserError(f"{where}: {reason}")
    if not is_installed(module_name):
        sys.path.append(str(current_folder()))
    try:
        module = importlib.import_module(module_name)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # another package may raise anything when it is imported
        what = " ".join(str(error).split())
        raise UserError(f"{where}: cannot import {target}: {type(error).__name__}: {what}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        message = f"{where}: cannot import {target}: there is no {attribute!r} in {module_name}"
        raise UserError(message + _suggested(module, attribute, usable)) from None


def _suggested(module: ModuleType, attribute: str, usable: Callable[[Any], bool]) -> str:
    """The similar usable attributes of a module, else those that it defines if they are few."""
    known = {name: value for name, value in vars(module).items() if not name.startswith("_") and usable(value)}
    if matches := close_matches(attribute, known):
        return suggestion(f"{module.__name__}:{name}" for name in matches)
    if hasattr(module, "__path__"):
        return ""  # a package defines little itself
    defined = [name for name, value in known.items() if getattr(value, "__module__", "") == module.__name__]
    return f" (it has {', '.join(defined)})" if 0 < len(defined) <= MOST_MATCHES else ""


def is_usable(kind: Kind, value: Any) -> bool:
    """Whether an object can be a component of a kind, or its row."""
    if isinstance(value, Row) or not isinstance(value, type):
        return isinstance(value, Row) or callable(value)
    if not kind.makes:
        return False
    expected = load(kind.makes, kind.where)
    return not missing_methods(value, expected) if is_protocol(expected) else issubclass(value, expected)


def no_target(name: str) -> str:
    """The reason why a name with a colon, a slash or .py is not a target."""
    module, _, attribute = name.partition(":")
    guess = f"{module.removesuffix('.py').replace('/', '.').strip('.')}:{attribute or 'NAME'}"
    if not TARGET.fullmatch(guess):
        return f"{name!r} is not package.module:callable"
    if not attribute:
        return f"{name!r} names no callable: write package.module:callable, as in {guess}"
    if not _module_exists(guess.partition(":")[0]):
        return f"{name!r} is not package.module:callable, and there is no module {guess.partition(':')[0]}"
    return f'{name!r} is not package.module:callable; did you mean "{guess}"? (the current folder is searched too)'


def no_module(target: str) -> str:
    """The reason why the module of a target cannot be found, with similar modules; empty if it can."""
    module, _, attribute = target.partition(":")
    if _module_exists(module):
        return ""
    folder = current_folder()
    files = {file.stem: file for file in folder.glob("*.py")}
    similar = [f"{name}:{attribute}" for name in close_matches(module, files) if attribute in _defined_in(files[name])]
    where = f"neither installed nor in {folder}"
    return f"cannot import {target}: there is no module {module}, {where}{suggestion(similar)}"


def _defined_in(file: Path) -> set[str]:
    """Names that a module defines at its top level; it is parsed and not imported."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                names |= {each.asname or each.name for each in imported}
            case ast.Assign(targets=targets):
                names |= {each.id for each in targets if isinstance(each, ast.Name)}
    return names


def _module_exists(module: str) -> bool:
    """Whether a module is installed or in the current folder, which `load` searches too."""
    place = current_folder().joinpath(*module.split("."))
    suffixes = importlib.machinery.all_suffixes()
    in_folder = place.is_dir() or any(place.with_name(place.name + suffix).is_file() for suffix in suffixes)
    return in_folder or is_installed(module)


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # a parent package that cannot be imported
        return False

"""From the arguments of `distdl train` to a recipe or a configuration: `--profile NAME|FILE [--optim.lr 0.1 ...]`."""

from collections.abc import Sequence
from typing import NoReturn

from distdl.cli import help
from distdl.cli.arguments import asks_for_help, overrides, take_flag
from distdl.core.config import Config
from distdl.core.layering import leaves
from distdl.core.profiles import DEFAULT_PROFILE, Recipe, read_profile, resolve, validate
from distdl.core.renamed import current_option

PROG = "distdl train"


def from_command_line(argv: Sequence[str], *, strategy: str, prog: str = PROG) -> Config:
    """The configuration of a training.

    Args:
        argv: arguments after the program's name.
        strategy: the strategy that `strategy = "auto"` selects in this process.
    Raises:
        UserError: for a wrong key, type, range, profile or combination, and for a field that would have no effect.
    """
    return resolve(recipe(argv, prog), strategy=strategy)


def recipe(argv: Sequence[str], prog: str = PROG) -> Recipe:
    """The profile and the overrides that a command line gives.

    Raises:
        UserError: for an unknown option or a missing value.
    """
    if asks_for_help(argv):
        show_help(argv, prog)
    table = overrides(Config, _with_current_names(argv), prog, profile=str)
    profile = table.pop("profile", DEFAULT_PROFILE)
    return Recipe(profile=profile, overrides=dict(leaves(table)))


def _with_current_names(argv: Sequence[str]) -> list[str]:
    """The arguments with new names of renamed fields."""
    renamed = []
    for argument in argv:
        option, equals, value = argument.partition("=")
        renamed.append(f"{current_option(option)}{equals}{value}")
    return renamed


def show_help(argv: Sequence[str], prog: str = PROG) -> NoReturn:
    """Print the options of a training with the profile's values as defaults, and exit."""
    _, rest = take_flag(argv, "--help")
    table = overrides(Config, _with_current_names(take_flag(rest, "-h")[1]), prog, profile=str, list=bool)
    base = validate(read_profile(table.get("profile", DEFAULT_PROFILE))[0], where="")
    description = (
        "Train an image classifier. The defaults below are those of the profile: --profile NAME|FILE. "
        "--list shows all profiles."
    )
    help.show_help(Config, prog, default=base, description=description)

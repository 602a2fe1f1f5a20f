"""Options of a training that were written before `--`."""

import shlex
from collections.abc import Container, Mapping, Sequence

from distdl.cli.parameters import switch_of


def misplaced(
    option: str, training: Container[str], argv: Sequence[str], verb_options: Mapping[str, bool], prog: str
) -> str:
    """The error for an option of the training before `--`, with the corrected command; empty for another option.

    Args:
        option: an option that the command does not have.
        training: options of the training.
        argv: all arguments of the command.
        verb_options: options of the command, and whether each takes a value.
        prog: the command as typed.
    """
    if switch_of(option) not in training:
        return ""
    corrected = shlex.join([*prog.split(), *_moved(argv, verb_options)])
    return f"{option} is an option of the training, which follows after --: {corrected}"


def _moved(argv: Sequence[str], verb_options: Mapping[str, bool]) -> list[str]:
    """The arguments, with all that are not options of the command behind `--`."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    verb_argv: list[str] = []
    training_argv: list[str] = []
    place = training_argv
    for argument in argv[:end]:
        is_option = argument.startswith("--")
        if is_option:
            place = verb_argv if switch_of(argument) in verb_options else training_argv
        place.append(argument)
        if is_option and ("=" in argument or not verb_options.get(switch_of(argument), True)):
            place = training_argv
    return [*verb_argv, "--", *training_argv, *argv[end + 1 :]]

"""Options on the wrong side of `--`, which separates those of a command from those of its training."""

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
    corrected = shlex.join([*prog.split(), *_moved(argv, verb_options, training)])
    return f"{option} is an option of the training, which follows after --: {corrected}"


def _moved(argv: Sequence[str], verb_options: Mapping[str, bool], training: Container[str]) -> list[str]:
    """The arguments, with the options of the command before `--`, and all others behind it."""
    verb_argv: list[str] = []
    training_argv: list[str] = []
    place = training_argv
    is_behind = False
    for argument in argv:
        if argument == "--" and not is_behind:
            place, is_behind = training_argv, True
            continue
        is_option = argument.startswith("--")
        if is_option:
            option = switch_of(argument)
            is_of_verb = option in verb_options and not (is_behind and option in training)
            place = verb_argv if is_of_verb else training_argv
        place.append(argument)
        if is_option and ("=" in argument or not verb_options.get(switch_of(argument), True)):
            place = training_argv
    return [*verb_argv, "--", *training_argv]

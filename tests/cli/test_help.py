"""--help of every subcommand on a terminal of 80 columns."""

import json
import re
import sys

import pytest

from distdl.cli.__main__ import VERBS
from terminal import run

MORE = {
    "distdl": ["--help"],
    "study run scaling": ["study", "run", "scaling", "--help"],
    "launch --": ["launch", "--", "--help"],
    "train --profile mnist-cnn": ["train", "--profile", "mnist-cnn", "--help"],
    "train --list": ["train", "--list"],
    "submit --dry-run": ["submit", "--dry-run", "--array", "0-3", "--", "--epochs", "1"],
}
CALLS = {verb: [*verb.split(), "--help"] for verb in VERBS} | MORE
IN_ONE_PROCESS = """
import json, sys
from distdl.cli.__main__ import main
for name, argv in json.loads(sys.argv[1]).items():
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    print(f"end of {name}: {code}", flush=True)
"""
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def outputs() -> dict[str, str]:
    """Output of each call on the terminal. All calls run in one process, which imports torch once."""
    code, text = run([sys.executable, "-c", IN_ONE_PROCESS, json.dumps(CALLS)])
    assert code == 0, text
    parts = {}
    for name in CALLS:
        parts[name], end, text = text.partition(f"end of {name}: 0\n")
        assert end, parts[name]
    return parts


@pytest.mark.parametrize("name", CALLS)
def test_no_line_is_longer_than_the_terminal(name: str, outputs: dict[str, str]) -> None:
    lines = STYLE.sub("", outputs[name]).splitlines()
    # A batch script contains paths and the arguments of the training.
    assert lines and [line for line in lines if len(line) > 80 and "runs/" not in line and "train=" not in line] == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_usage_is_the_command_as_typed_with_its_arguments_by_name(verb: str, outputs: dict[str, str]) -> None:
    usage = STYLE.sub("", outputs[verb]).split("\n\n")[0]
    assert usage.startswith(f"usage: distdl {verb} ") and "STR" not in usage
    assert "[OPTIONS]" in usage


def test_the_usage_names_positional_required_and_inner_arguments(outputs: dict[str, str]) -> None:
    usages = {verb: STYLE.sub("", outputs[verb]).splitlines()[0].removeprefix("usage: distdl ") for verb in VERBS}
    assert usages["paleo"] == "paleo MODEL --device DEVICE [OPTIONS]"
    assert usages["fit speed"] == "fit speed SOURCES... [OPTIONS]"
    assert usages["launch"] == "launch [OPTIONS] -- ARGUMENTS..."
    assert usages["models list"] == "models list [PATTERN] [OPTIONS]"


def test_the_help_of_train_has_the_defaults_of_the_profile_and_names_list(outputs: dict[str, str]) -> None:
    assert "--list shows all" in STYLE.sub("", outputs["train"])
    assert "--list shows all" in STYLE.sub("", outputs["launch --"])
    assert "(default: mnist-cnn)" in STYLE.sub("", outputs["train --profile mnist-cnn"])


@pytest.mark.parametrize(("entry", "command"), [("distdl.train", ""), ("distdl.cli", "train")])
def test_help_and_errors_name_the_command_as_typed(entry: str, command: str) -> None:
    prog = "distdl train" if command else "python -m distdl.train"
    start = [sys.executable, "-m", entry, *command.split()]
    code, text = run([*start, "--help"])
    assert code == 0 and text.startswith(f"usage: {prog} [OPTIONS]\n")
    assert run([*start, "--nope"]) == (2, f"error: Unrecognized options: --nope ({prog} --help shows all)\n")


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_the_help_follows_the_width_of_the_terminal(columns: int) -> None:
    code, text = run([sys.executable, "-m", "distdl.cli", "fit", "loss", "--help"], columns)
    assert code == 0
    assert max(len(line) for line in STYLE.sub("", text).splitlines()) <= columns

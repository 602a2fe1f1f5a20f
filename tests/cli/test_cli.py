"""The command `distdl`: subcommands, errors and imports."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

from distdl.cli import __main__ as cli
from distdl.cli.recipe import from_command_line
from distdl.core.errors import UserError


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "distdl.cli", *argv], capture_output=True, text=True, timeout=60)


def test_help_lists_every_verb_and_imports_no_torch() -> None:
    code = (
        "import sys; from distdl.cli.__main__ import main; main(['--help']); "
        "heavy = {'torch', 'numpy', 'tyro', 'pydantic', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for verb in cli.VERBS:
        assert f"\n  {verb} " in done.stdout


def test_help_fits_a_terminal_of_80_columns() -> None:
    assert max(map(len, run("--help").stdout.splitlines())) <= 80


def test_each_file_is_named_after_its_verb_or_group() -> None:
    for name, verb in cli.VERBS.items():
        group, *_ = names = name.replace("-", "_").split()
        file = verb.target.partition(":")[0].removeprefix("distdl.cli.")
        assert file in ("_".join(names), group) or (name, file) in [("models list", "list"), ("study list", "list")]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str) -> None:
    done = run(*verb.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_an_unknown_verb_names_the_nearest() -> None:
    done = run("docter")
    assert done.returncode == 2
    message = '"docter" is not a command of distdl; did you mean "doctor"? (distdl --help shows all)'
    assert done.stderr == f"error: {message}\n"


def test_a_verb_parses_its_signature_and_reports_errors_in_one_line() -> None:
    def verb(*, n: int = 3) -> int:
        """A verb.

        Args:
            n: a number
        """
        return n + 1

    assert cli.parse(verb, ["--n", "4"]) == 5
    with pytest.raises(UserError, match=r"^Unrecognized options: --m, 4$"):
        cli.parse(verb, ["--m", "4"])
    with pytest.raises(UserError, match="--n"):
        cli.parse(verb, ["--n", "four"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--n", "4", "5"], "--n takes one value: '5' is too many"),
        (["--n=4", "5"], "--n takes one value: '5' is too many"),
        (["--pair", "1", "1", "1"], "--pair takes 2 values: '1' is too many"),
        (["--pair", "1", "2", "--n", "4", "3"], "--n takes one value: '3' is too many"),
        (["3", "--n", "4"], "Unrecognized arguments: 3"),
        (["--several", "1", "2", "--n", "4", "3"], "--n takes one value: '3' is too many"),
    ],
)
def test_a_value_too_many_is_named_with_its_option(argv: list[str], message: str) -> None:
    def verb(*, n: int = 3, pair: tuple[int, int] = (0, 0), several: tuple[int, ...] = ()) -> None:
        """A verb."""

    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        cli.parse(verb, argv)


def test_errors_raised_by_a_verb_are_not_reported_as_usage_errors() -> None:
    def verb() -> int:
        """A verb that fails."""
        raise KeyError("its own")

    with pytest.raises(KeyError):
        cli.parse(verb, [])


def test_the_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"distdl {metadata.version('distdl')}\n", "")


@pytest.mark.parametrize(("argv", "same"), [(["help"], ["--help"]), (["help", "doctor"], ["doctor", "--help"])])
def test_help_is_also_a_subcommand(argv: list[str], same: list[str]) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout) == (0, run(*same).stdout)


INTERRUPTED = """
import builtins, os, runpy, signal, sys

imported = builtins.__import__

def interrupted(name, *rest, **more):
    if name == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)
    return imported(name, *rest, **more)

builtins.__import__ = interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell disables it for background commands
sys.argv = ["distdl", *{argv!r}]
runpy.run_module({entry!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("entry", "argv", "module"),
    [
        ("distdl.cli", ["doctor"], "difflib"),  # imported by the entry point
        ("distdl.cli", ["doctor"], "psutil"),  # imported by the subcommand
        ("distdl.train", ["--list"], "difflib"),
        ("distdl.train", ["--list"], "pydantic"),
    ],
)
def test_ctrl_c_during_an_import_is_a_one_line_error(entry: str, argv: list[str], module: str) -> None:
    code = INTERRUPTED.format(module=module, argv=argv, entry=entry)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_importing_the_command_does_not_change_ctrl_c() -> None:
    code = (
        "import signal; signal.signal(2, signal.default_int_handler); import distdl.cli, distdl.train; "
        "assert signal.getsignal(2) is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        ("--names a --names b", ("a", "b")),
        ("--names=a --n 3 --names b c", ("a", "b", "c")),
        ("--names a b --names --names c", ("c",)),
        ("--names a --names", ()),
        ("--names a b", ("a", "b")),
    ],
)
def test_a_repeated_list_gets_all_its_values(argv: str, values: tuple[str, ...]) -> None:
    def verb(*, names: tuple[str, ...] = ("x",), n: int = 3, pair: tuple[int, int] = (1, 2)) -> tuple:
        """A verb."""
        return names, n, pair

    assert cli.parse(verb, argv.split())[0] == values
    assert cli.parse(verb, ["--n", "4", "--pair", "3", "4", "--n=5", "--pair", "5", "6"]) == (("x",), 5, (5, 6))


def test_a_repeated_list_of_a_section_gets_all_its_values() -> None:
    argv = ["--optim.lr-factors", "a", "1", "--epochs", "2", "--optim.lr_factors", "b", "2", "--epochs", "3"]
    config = from_command_line(argv, strategy="single")
    assert config.optim.lr_factors == (("a", 1.0), ("b", 2.0)) and config.epochs == 3
    for wrong in ("a", "a 1 b", "a 1 --optim.lr-factors b"):
        with pytest.raises(UserError, match=r"^--optim.lr-factors takes groups of 2 values, each text and a number$"):
            from_command_line(["--optim.lr-factors", *wrong.split()], strategy="single")


@pytest.mark.parametrize("argv", [["report"], ["fit", "loss"], ["study", "run", "scaling", "--quick", "--out"]])
def test_a_name_that_is_too_long_is_a_one_line_error(argv: list[str]) -> None:
    done = run(*argv, "x" * 300)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"error: \S*x+\.\.\.\S+: File name too long\n", done.stderr)

"""The command `distdl`: its verbs, its errors, and how fast it answers."""

import subprocess
import sys

import pytest

from distdl import cli
from distdl.errors import UserError


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "distdl.cli", *words], capture_output=True, text=True, timeout=60)


def test_help_names_every_verb_and_imports_no_torch() -> None:
    code = (
        "import sys; from distdl.cli import main; main(['--help']); "
        "heavy = {'torch', 'numpy', 'tyro', 'pydantic', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for verb in cli.VERBS:
        assert f"\n  {verb} " in done.stdout


def test_help_fits_a_terminal_of_80_columns() -> None:
    assert max(map(len, run("--help").stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str) -> None:
    done = run(*verb.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_an_unknown_verb_names_the_nearest() -> None:
    done = run("docter")
    assert done.returncode == 2
    assert done.stderr == 'error: "docter" is not a verb of distdl; did you mean "doctor"? (distdl --help shows all)\n'


def test_a_verb_parses_its_signature_and_complains_in_one_line() -> None:
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


def test_what_a_verb_itself_raises_is_not_taken_for_a_complaint() -> None:
    def verb() -> int:
        """A verb that fails."""
        raise KeyError("its own")

    with pytest.raises(KeyError):
        cli.parse(verb, [])

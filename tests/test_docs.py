"""Every command in the README and in docs/ is one that works: run where it is quick, else parsed as it would be.

A command is a line of a fenced block, or code in a table's cell, that begins with a program's name. One that needs what
a test cannot have is marked, by a comment before its block or in its row: <!-- needs: a cluster with Slurm -->. A
program that is not known here fails the test.
"""

import functools
import re
import shlex
import subprocess
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path

import pytest

from distdl.cli.__main__ import VERBS, main
from distdl.cli.arguments import parse
from distdl.cli.recipe import from_command_line
from distdl.core.errors import EXIT_DONE
from repository import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = re.compile(
    r"(distdl|torchrun|horovodrun|mpirun|srun|sbatch|make|python3?|pip|uv|git|cd|sh|bash|docker|podman|buildah|apptainer"
    r"|containers/\S+|launch/\S+) "
)
NEEDS = re.compile(r"<!-- needs: ([^>]+) -->")
READS = ("doctor", "data list", "study list", "flops", "paleo")
"""Verbs that take seconds and write nothing: their commands are run as they stand."""


@dataclass(frozen=True)
class Command:
    page: str
    line: int
    text: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def commands_of(page: Path) -> list[Command]:
    """All commands of a page."""
    found, inside, is_commands, needs = [], False, False, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.startswith("```"):
            inside, is_commands = not inside, False
            if inside:
                marked = NEEDS.search(_paragraph_before(lines, number - 1))
                needs = marked[1] if marked else ""
                is_commands = number < len(lines) and bool(PROGRAM.match(lines[number] + " "))
        elif inside and is_commands and line.strip():
            found.append(Command(page.name, number, line.split("  #")[0].rstrip(), needs))
        elif not inside and line.startswith("|"):
            marked = NEEDS.search(line)
            for code in re.findall(r"`([^`]+)`", line):
                if PROGRAM.match(code + " "):
                    found.append(Command(page.name, number, code, marked[1] if marked else ""))
    return found


def _paragraph_before(lines: list[str], fence: int) -> str:
    """The text just above a block, up to the empty line above it."""
    above = fence - 1
    while above >= 0 and not lines[above].strip():
        above -= 1
    first = above
    while first >= 0 and lines[first].strip() and not lines[first].startswith("```"):
        first -= 1
    return "\n".join(lines[first + 1 : above + 1])


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 50
    assert {command.page for command in COMMANDS} >= {"README.md", "first-run.md", "cluster.md", "predict.md", "own.md"}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_works(
    command: Command, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    Path("my.toml").write_text('extends = "mnist-cnn"\nepochs = 3\n[optim]\nlr = 0.0005\n')  # own.md's
    Path("machine.toml").write_text((ROOT / "profiles/devices/k80.toml").read_text())  # for predict.md's
    words = shlex.split(command.text.split(" > ")[0])
    checks = {
        "distdl": lambda: distdl(words[1:]),
        "torchrun": lambda: torchrun(words[1:]),
        "horovodrun": lambda: training(words[words.index("distdl.train") + 1 :], "horovod"),
        "make": lambda: make(words[1:]),
        "python": lambda: script(words[1:]),
        "pip": lambda: extras(words[1:]),
        "containers/build.sh": lambda: subprocess.run(["sh", "-n", ROOT / words[0]], check=True),
    }
    assert words[0] in checks, f"{command}: {words[0]} is not known to this test, which must learn to check it"
    checks[words[0]]()


def distdl(words: list[str]) -> None:
    """Run what only reads or is dry; parse the rest."""
    verb = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
    rest = words[len(verb.split()) :]
    if verb == "train" and rest != ["--list"]:
        return training(rest, "single")
    if verb in READS or "--dry-run" in rest or rest == ["--list"] or verb == "--help":
        assert main(words) == EXIT_DONE
    elif verb == "study run":
        study_run(rest)
    else:
        parsed(verb, rest)
    if verb in ("launch", "submit") and "--" in rest:
        training(rest[rest.index("--") + 1 :], "ddp")


def parsed(verb: str, words: list[str]) -> None:
    module, name = VERBS[verb].target.split(":")
    function = getattr(import_module(module), name)

    @functools.wraps(function)
    def capture(*args: object, **kwargs: object) -> None:
        return None

    parse(capture, words)


def study_run(words: list[str]) -> None:
    from distdl.cli import study as commands
    from distdl.studies.runner import catalog as catalogue
    from distdl.studies.runner.settings import resolve

    study = catalogue.find(words[0])

    @functools.wraps(commands.run)
    def capture(*, profile: str = "", set: tuple[str, ...] = (), quick: bool = False, **_: object) -> object:
        return resolve(study, profile=profile, said=set, quick=quick)

    settings = parse(capture, commands.own_options(words, study))
    assert study.trials(settings)


def training(words: list[str], strategy: str) -> None:
    from_command_line(words, strategy=strategy)


def torchrun(words: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    told = get_args_parser().parse_args(words)
    if told.training_script == "distdl.train":
        training(told.training_script_args, "ddp")
    else:
        assert told.training_script == "distdl.cli"
        distdl(told.training_script_args)


def make(words: list[str]) -> None:
    done = subprocess.run(["make", "-n", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def extras(words: list[str]) -> None:
    """`pip install 'distdl[EXTRA]'` names extras that there are."""
    named = re.fullmatch(r"distdl(?:\[([\w,-]+)\])?", words[-1])
    assert words[0] == "install" and named, f"pip {' '.join(words)} installs no distdl"
    known = metadata("distdl").get_all("Provides-Extra")
    for extra in (named[1] or "").split(","):
        assert not extra or extra in known, f"distdl has no extra {extra}; it has {', '.join(known)}"


def script(words: list[str]) -> None:
    """A benchmark that is there and knows its options. Each is run for real where its figures are made."""
    if words[:2] == ["-m", "distdl.train"]:
        return training(words[2:], "single")
    source = (ROOT / words[0]).read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{words[0]} has no option {word}"


def test_the_first_run_page_in_a_small_form(tmp_path: Path) -> None:
    """Trained, gone on with, explained, reported, exported: the commands of first-run.md, on two epochs."""
    from jobs import QUIET, Ranks

    words = ["--profile", "digits", "--out", "runs/first", "--epochs", "2", "--log-every-s", "0", *QUIET]
    assert Ranks(words).wait() == [0]
    assert Ranks([*words, "--resume", "auto"]).wait() == [0]
    assert main(["explain", "runs/first"]) == EXIT_DONE
    assert main(["report", "runs/first"]) == EXIT_DONE
    assert main(["export", "runs/first", "weights.safetensors"]) == EXIT_DONE
    assert Path("runs/first/report.html").is_file() and Path("weights.safetensors").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target} is not there"

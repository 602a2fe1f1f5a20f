"""Commands, Python and TOML blocks of README and docs/ work, links have targets, and the site builds.

A command is a line of a fenced block, or code in a table's cell, that starts with the name of a program. Each command
is parsed by the code that would run it; those that take seconds and write nothing also run. The slow tests run all
commands of a page in one folder, in their order. A comment before a block, or in a row, names what a test cannot
provide: <!-- needs: a cluster with Slurm -->. A program that this module does not know fails the test.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from distdl import __version__ as distdl_version
from distdl.cli.__main__ import VERBS, main
from distdl.cli.arguments import parse
from distdl.cli.recipe import from_command_line
from distdl.core.errors import EXIT_DONE
from repository import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "UPGRADING.md", "ARCHITECTURE.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
PROGRAM = re.compile(
    r"(distdl|torchrun|horovodrun|mpiexec|mpirun|srun|sbatch|make|python3?|pip|uv|git|cd|sh|bash|docker|podman|buildah"
    r"|apptainer|chromium|containers/\S+|launch/\S+|\.venv/bin/\S+) "
)
NEEDS = re.compile(r"<!-- needs: ([^>]+) -->")
READS = ("doctor", "list", "data list", "study list", "flops", "paleo")
"""Subcommands that take seconds and write nothing; the tests run them."""
SHORT = ("--max-steps", "2")
"""Arguments that the slow tests add to each training except that of digits, as a page's trainings may take hours."""


@dataclass(frozen=True)
class Command:
    """A command of a page; `needs` states why a test cannot run it, or is empty."""

    page: str
    line: int
    text: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line where its text starts, the text, and the paragraph above it."""

    language: str
    line: int
    text: str
    above: str


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    return [
        Block(
            language=lines[opening].removeprefix("```").strip(),
            line=opening + 2,
            text="\n".join(lines[opening + 1 : closing]),
            above=_paragraph_above(lines, opening),
        )
        for opening, closing in zip(fences[::2], fences[1::2], strict=True)
    ]


def _paragraph_above(lines: list[str], fence: int) -> str:
    """The text between a block and the empty line above it."""
    last = fence - 1
    while last >= 0 and not lines[last].strip():
        last -= 1
    first = last
    while first >= 0 and lines[first].strip() and not lines[first].startswith("```"):
        first -= 1
    return "\n".join(lines[first + 1 : last + 1])


def commands_of(page: Path) -> list[Command]:
    """All commands of a page, from top to bottom."""
    commands = []
    for block in blocks_of(page):
        if not block.language and PROGRAM.match(block.text.partition("\n")[0] + " "):
            marked = NEEDS.search(block.above)
            for number, line in enumerate(block.text.splitlines(), start=block.line):
                if line.strip():
                    text = line.split("  #")[0].rstrip()
                    commands.append(Command(page.name, number, text, marked[1] if marked else ""))
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("|"):
            marked = NEEDS.search(line)
            commands += [
                Command(page.name, number, code, marked[1] if marked else "")
                for code in re.findall(r"`([^`]+)`", line)
                if PROGRAM.match(code + " ") and " " in code
            ]
    return sorted(commands, key=lambda command: command.line)


COMMANDS = {page.name: commands_of(page) for page in PAGES}
PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]
TOML = [(page, block) for page in PAGES for block in blocks_of(page) if block.language == "toml"]
FILES = {
    file[1]: block.text
    for page in PAGES
    for block in blocks_of(page)
    if (file := re.match(r"# (\w+\.py)\n", block.text))
}
"""Python blocks that start with the name of a file: the commands of the pages use these files."""
RUNNABLE = ("distdl", "torchrun", "horovodrun", "python")
"""Programs that the slow tests start."""


@pytest.fixture
def folder(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that pages use: a profile, a device, measurements and photographs."""
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    Path("my.toml").write_text('extends = "mnist-cnn"\nepochs = 3\n[optim]\nlr = 0.0005\n')
    Path("machine.toml").write_text((ROOT / "profiles/devices/k80.toml").read_text())
    shutil.copy(ROOT / "docs/ps-1gbit.csv", tmp_path)
    Path("photos").symlink_to(data_root / "flower_photos")
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_commands_are_found() -> None:
    assert sum(map(len, COMMANDS.values())) > 100
    with_commands = {name for name, commands in COMMANDS.items() if commands}
    assert with_commands >= {
        "README.md", "CONTRIBUTING.md", "start.md", "train.md", "data.md", "plan.md", "studies.md", "cluster.md",
        "extend.md", "reproductions.md", "figures.md",
    }  # fmt: skip


@pytest.mark.parametrize("command", [each for commands in COMMANDS.values() for each in commands], ids=str)
def test_every_command_is_valid(command: Command, folder: Path) -> None:
    argv = shlex.split(command.text.split(" > ")[0])
    checks = {
        "distdl": lambda: distdl(argv[1:]),
        "torchrun": lambda: torchrun(argv[1:]),
        "horovodrun": lambda: training(argv[argv.index("distdl.train") + 1 :], "horovod"),
        "mpiexec": lambda: training(argv[argv.index("distdl.train") + 1 :], "ddp"),
        "make": lambda: make(argv[1:]),
        "python": lambda: script(argv[1:]),
        "pip": lambda: extras(argv[1:]),
        "git": lambda: None,
        "chromium": lambda: None,
    }
    if argv[0].endswith(".sh"):
        subprocess.run(["sh", "-n", ROOT / argv[0]], check=True)
    elif argv[0].startswith(".venv/bin/"):
        tool(argv)
    else:
        assert argv[0] in checks, f"{command}: {argv[0]} is not known to this test, add a check for it"
        checks[argv[0]]()


def distdl(argv: list[str]) -> None:
    """Run a command that only reads or has --dry-run; parse all others."""
    verb = " ".join(argv[:2]) if " ".join(argv[:2]) in VERBS else argv[0]
    rest = argv[len(verb.split()) :]
    if verb == "train" and rest not in (["--list"], ["--help"]):
        training(rest, "single")
        return
    if verb.startswith("slurm") and not rest:
        assert verb in VERBS, f"{verb} is not a command"
    elif verb in READS or {"--dry-run", "--list"} & set(rest):
        assert main(argv) == EXIT_DONE
    elif "--help" in argv or verb == "--version":
        assert verb in VERBS or verb.startswith("--")
    elif verb == "study run":
        study_run(rest)
    else:
        parsed(verb, rest)
    if verb in ("launch", "submit") and "--" in rest:
        training(rest[rest.index("--") + 1 :], "ddp")


def parsed(verb: str, argv: list[str]) -> None:
    module, name = VERBS[verb].target.split(":")
    function = getattr(import_module(module), name)

    @functools.wraps(function)
    def capture(*args: object, **kwargs: object) -> None:
        return None

    parse(capture, argv)


def study_run(argv: list[str]) -> None:
    """Check that the study is registered and has the settings in the command."""
    from distdl.cli import study as commands
    from distdl.studies.runner import catalog
    from distdl.studies.runner.settings import resolve

    study = catalog.find(argv[0])

    @functools.wraps(commands.run)
    def capture(*, profile: str = "", set: tuple[str, ...] = (), quick: bool = False, **_: object) -> object:
        return resolve(study, profile=profile, assignments=set, quick=quick)

    settings = parse(capture, commands.own_options(argv, study))
    assert study.trials(settings)


def training(argv: list[str], strategy: str) -> None:
    from_command_line(argv, strategy=strategy)


def torchrun(argv: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    options = get_args_parser().parse_args(argv)
    if options.training_script == "distdl.train":
        training(options.training_script_args, "ddp")
    else:
        assert options.training_script == "distdl.cli"
        distdl(options.training_script_args)


def make(argv: list[str]) -> None:
    done = subprocess.run(["make", "-n", "-C", ROOT, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tool(argv: list[str]) -> None:
    """Check that a program is in the environment of `make`, and that pytest's arguments are existing tests."""
    name = Path(argv[0]).name
    assert (Path(sys.executable).parent / name).exists(), f"{name} is not in the environment"
    for argument in argv[1:]:
        if argument.startswith(("tests/", "distdl/", "tools/")):
            assert (ROOT / argument.partition("::")[0]).exists(), f"{argument} does not exist"


def extras(argv: list[str]) -> None:
    """Check that the extra in `pip install 'distdl[EXTRA]'` exists."""
    match = re.fullmatch(r"distdl(?:\[([\w,-]+)\])?", argv[-1])
    assert argv[0] == "install" and match, f"pip {' '.join(argv)} does not install distdl"
    known = metadata("distdl").get_all("Provides-Extra")
    for extra in (match[1] or "").split(","):
        assert not extra or extra in known, f"distdl has no extra {extra}; it has {', '.join(known)}"


def script(argv: list[str]) -> None:
    """Check that the script exists and has these options, without running it."""
    argv = argv[argv[0] == "-P" :]
    if argv[:2] == ["-m", "distdl.train"]:
        training(argv[2:], "single")
        return
    if argv[0] == "-m":
        assert find_spec(argv[1]), f"there is no module {argv[1]}"
        return
    source = (ROOT / argv[0]).read_text(encoding="utf-8")
    for argument in argv[1:]:
        if argument.startswith("--"):
            assert f'"{argument}"' in source, f"{argv[0]} has no option {argument}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, commands in COMMANDS.items() if commands])
def test_the_commands_of_a_page_run_in_order(page: str, folder: Path) -> None:
    """Run the commands of a page in order, in one folder, except those with a comment `needs`."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    commands = [each for each in COMMANDS[page] if not each.needs and is_runnable(each.text)]
    for command in commands:
        done = subprocess.run(shortened(command.text), shell=True, env=environment, capture_output=True, text=True)  # noqa: S602
        assert done.returncode == EXIT_DONE, f"{command}: {command.text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def is_runnable(text: str) -> bool:
    """Whether the slow tests run this command; benchmarks are not run."""
    return text.split(maxsplit=1)[0] in RUNNABLE and "benchmarks/" not in text


def shortened(text: str) -> str:
    """Return the command, with few steps if it trains another network than digits."""
    trains = re.match(r"distdl train |.* -m distdl\.train ", text) and "--list" not in text and "--help" not in text
    return text if not trains or "digits" in text else f"{text} {' '.join(SHORT)}"


def test_the_start_page_with_a_short_training(tmp_path: Path) -> None:
    """Train two epochs, resume, explain, report and export, as in start.md and train.md."""
    from jobs import QUIET, Ranks

    argv = ["--profile", "digits", "--out", "runs/first", "--epochs", "2", "--log-every-s", "0", *QUIET]
    assert Ranks(argv).wait() == [0]
    assert Ranks([*argv, "--resume", "auto"]).wait() == [0]
    assert main(["explain", "runs/first"]) == EXIT_DONE
    assert main(["report", "runs/first"]) == EXIT_DONE
    assert main(["export", "runs/first", "weights.safetensors"]) == EXIT_DONE
    assert Path("runs/first/report.html").is_file() and Path("weights.safetensors").is_file()


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, folder: Path) -> None:
    """Run the Python blocks of a page in order, in one session."""
    session: dict[str, object] = {"__name__": page.stem}
    sys.modules[page.stem] = type(sys)(page.stem)  # dataclasses look up the module of a class
    try:
        for block in blocks_of(page):
            if block.language == "python":
                code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
                exec(code, session)
    finally:
        del sys.modules[page.stem]


@pytest.mark.parametrize(("page", "block"), TOML, ids=lambda each: getattr(each, "name", None) or str(each.line))
def test_toml_blocks_are_valid(page: Path, block: Block, tmp_path: Path) -> None:
    """Parse TOML blocks, and read profiles, devices and networks with the code of distdl."""
    from distdl.perf import hardware

    table = tomllib.loads(block.text)
    file = tmp_path / "block.toml"
    file.write_text(block.text, encoding="utf-8")
    if "extends" in table:
        from_command_line(["--profile", str(file)], strategy="single")
    elif "peak_tflops" in table:
        assert hardware.device(str(file)).name == table["name"]
    elif "bandwidth_gbit_per_s" in table:
        assert hardware.network(str(file)).name == table["name"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target} does not exist"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


def test_every_picture_is_used() -> None:
    """Generated pages and figures are not committed: `make gallery` builds them."""
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg", ".jpg", ".gif")]
    assert len(pictures) <= 10
    for picture in pictures:
        used = [page.name for page in PAGES if f"pictures/{picture.name}" in page.read_text(encoding="utf-8")]
        assert used, f"no page shows {picture.name}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Run the command of `make docs`: a broken link, or a page without a table of contents, is an error."""
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-d", tmp_path / "doctrees"]
    argv = [sys.executable, "-m", "sphinx", *options, "-c", ROOT / "docs", ROOT, tmp_path / "site"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"index.html", "docs", "benchmarks"} <= {path.name for path in (tmp_path / "site").iterdir()}


def test_upgrading_names_modules_that_exist() -> None:
    """Each new name in UPGRADING.md can be imported, and each old one cannot."""
    text = (ROOT / "UPGRADING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`distdl\.[^|]+) \| (`distdl\.[^|]+) \|$", text, re.MULTILINE)
    pairs = [
        pair for old, new in rows for pair in zip(re.findall("`(.+?)`", old), re.findall("`(.+?)`", new), strict=True)
    ]
    assert len(pairs) > 30
    for old, new in pairs:
        assert find_spec(new), f"{new} does not exist"
        assert new.startswith(f"{old}.") or not find_spec(old), f"{old} still exists"


def test_the_changelog_has_the_version_and_unreleased_changes() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", distdl_version]

"""Mutation test of the core: does a test fail when one place of the code is wrong?

    python -m tools.mutants run build/mutants.jsonl --count 300 --seed 2026
    python -m tools.mutants again build/mutants.jsonl
    python -m tools.mutants report build/mutants.jsonl > benchmarks/results/mutants_HARDWARE_DATE.md

`run` draws mutants with a fixed seed and runs the tests that can notice each one in a copy of the last commit. Each mutant
is a row of the file; a second run continues after the last row. `again` repeats the mutants that survived, after tests were
added. `report` counts the rows, and lists the survivors with the reasons in tools/mutants/equivalent.toml.
"""

import argparse
import json
import random
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from typing import Any

from distdl.core.files import write_atomic
from tools.mutants.changes import Mutant, mutants_of
from tools.mutants.selection import killed_by

ROOT = Path(__file__).resolve().parents[2]
CORE = ("core", "data", "launchers", "models", "optim", "perf", "runtime", "strategies", "telemetry", "training")
"""Packages of distdl that are changed: all except commands, pages and studies."""
EQUIVALENT = ROOT / "tools" / "mutants" / "equivalent.toml"


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw mutants without repetition: from each module the same share, so that small ones are not left out."""
    generator = random.Random(seed)
    modules = [file for part in CORE for file in sorted((ROOT / "distdl" / part).rglob("*.py"))]
    left = [generator.sample(found, len(found)) for file in modules if (found := list(mutants_of(file, ROOT)))]
    generator.shuffle(left)
    totals = [len(each) for each in left]
    drawn: list[Mutant] = []
    while len(drawn) < count:
        index = max(range(len(left)), key=lambda place: len(left[place]) / totals[place])
        drawn.append(left[index].pop())
    return drawn


def test_all(mutants: Sequence[Mutant], jobs: int, last_stage: int) -> Iterator[dict[str, object]]:
    """Test mutants in copies of the repository. Yields a row for each, in their order."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: Queue[Path] = Queue()
        for job in range(jobs):
            copy = Path(folder) / str(job)
            subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
            copies.put(copy)

        def test(mutant: Mutant) -> dict[str, object]:
            copy = copies.get()
            try:
                return {**asdict(mutant), "killed_by": killed_by(mutant, copy, last_stage)}
            finally:
                copies.put(copy)

        for row in pool.map(test, mutants):
            print(f"{row['file']}:{row['line']}: {row['kind']}: {row['killed_by'] or 'SURVIVED'}", flush=True)
            yield row


def run(arguments: argparse.Namespace) -> None:
    """Test the mutants that the output does not have, and append a row for each."""
    known = [_key(row) for row in rows(arguments.file)]
    todo = [each for each in draw(arguments.count, arguments.seed) if _key(asdict(each)) not in known]
    with arguments.file.open("a") as sink:
        for row in test_all(todo, arguments.jobs, arguments.stages):
            sink.write(json.dumps(row) + "\n")
            sink.flush()


def again(arguments: argparse.Namespace) -> None:
    """Test the mutants that survived once more, on the code and the tests of today."""
    found = rows(arguments.file)
    todo: dict[int, Mutant] = {}
    for index, row in enumerate(found):
        same = [each for each in mutants_of(ROOT / row["file"], ROOT) if _text(asdict(each)) == _text(row)]
        if not row["killed_by"] and same:
            todo[index] = min(same, key=lambda mutant: abs(mutant.line - row["line"]))
        elif not row["killed_by"]:
            print(f"{row['file']}:{row['line']}: {row['kind']}: no longer in the code")
    for index, row in zip(todo, test_all(list(todo.values()), arguments.jobs, arguments.stages), strict=True):
        found[index] = row
        write_atomic(arguments.file, "".join(json.dumps(each) + "\n" for each in found))


def report(arguments: argparse.Namespace) -> None:
    """Print the score of each package and the mutants that survived, as Markdown."""
    found = rows(arguments.file)
    reasons = {_text(each): each["reason"] for each in tomllib.loads(EQUIVALENT.read_text())["mutants"]}
    print("| package | mutants | killed | survived | equivalent |\n| --- | --- | --- | --- | --- |")
    packages = sorted({_package(row) for row in found})
    for package in [*packages, "all"]:
        part = [row for row in found if package in (_package(row), "all")]
        killed = sum(bool(row["killed_by"]) for row in part)
        equivalent = sum(not row["killed_by"] and _text(row) in reasons for row in part)
        print(f"| {package} | {len(part)} | {killed} | {len(part) - killed - equivalent} | {equivalent} |")
    killed, survived = (sum(bool(row["killed_by"]) is is_killed for row in found) for is_killed in (True, False))
    equivalent = sum(not row["killed_by"] and _text(row) in reasons for row in found)
    print(
        f"\nKilled: {killed / len(found):.1%}; without the equivalent ones {killed / (len(found) - equivalent):.1%}.\n"
    )
    print("| survivor | change | reason |\n| --- | --- | --- |")
    for row in found:
        if not row["killed_by"]:
            cells = (
                f"{row['file']}:{row['line']}",
                f"`{row['before']}` to `{row['after']}`",
                reasons.get(_text(row), "no test"),
            )
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


def rows(file: Path) -> list[dict]:
    """The rows of an output; none if it does not exist."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _text(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["file"], row["before"], row["after"]


def _key(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (*_text(row), row["start"])


def _package(row: Mapping[str, Any]) -> str:
    return Path(row["file"]).parts[1]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (run, again, report):
        command = verbs.add_parser(verb.__name__, help=verb.__doc__)
        command.set_defaults(verb=verb)
        command.add_argument("file", type=Path, metavar="ROWS", help="file of JSON lines")
        if verb is not report:
            command.add_argument("--jobs", type=int, default=2, help="mutants at a time")
            command.add_argument("--stages", type=int, default=3, help="1 to 3: how many of the groups of tests run")
        if verb is run:
            command.add_argument("--count", type=int, default=300)
            command.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    arguments.verb(arguments)


if __name__ == "__main__":
    main()

"""Mutation test of the core: does a test fail when one place of the code is wrong?

    python -m tools.mutants run build/mutants.jsonl --count 300 --seed 2026
    python -m tools.mutants again build/mutants.jsonl
    python -m tools.mutants report build/mutants.jsonl > benchmarks/results/mutants_HARDWARE_DATE.md

`run` draws mutants with a fixed seed and runs the tests that can notice each one in a copy of the last commit. Each
mutant is a row of the file; a second run continues after the last row. `again` repeats the mutants that survived, after
tests were added. `report` counts the rows, and lists the survivors with the reasons in tools/mutants/equivalent.toml.
"""

import argparse
import json
import random
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

from distdl.core.files import write_atomic
from tools.mutants.changes import Mutant, mutants_of
from tools.mutants.selection import killed_by

ROOT = Path(__file__).resolve().parents[2]
CORE = ("core", "data", "launchers", "models", "optim", "perf", "runtime", "strategies", "telemetry", "training")
"""Packages of distdl that are changed: all except commands, pages, studies and the planner."""
EQUIVALENT = ROOT / "tools" / "mutants" / "equivalent.toml"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of one mutant."""

    mutant: Mutant
    killed_by: str
    """A test that fails; empty: the mutant survived."""

    @property
    def key(self) -> tuple[str, str, str]:
        """The change, wherever in its file it is."""
        return self.mutant.file, self.mutant.code, self.mutant.changed


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw mutants without repetition: from each module the same share, so that small ones are represented."""
    generator = random.Random(seed)
    modules = [file for part in CORE for file in sorted((ROOT / "distdl" / part).rglob("*.py"))]
    mutants = [list(mutants_of(file, ROOT)) for file in modules]
    remaining = [generator.sample(each, len(each)) for each in mutants if each]
    generator.shuffle(remaining)
    totals = [len(each) for each in remaining]
    sample: list[Mutant] = []
    while len(sample) < count:
        index = max(range(len(remaining)), key=lambda place: len(remaining[place]) / totals[place])
        sample.append(remaining[index].pop())
    return sample


def test_all(mutants: Sequence[Mutant], arguments: argparse.Namespace) -> Iterator[Row]:
    """Test mutants in copies of the repository, in their order."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        copies: Queue[Path] = Queue()
        for job in range(arguments.jobs):
            copy = Path(folder) / str(job)
            subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
            copies.put(copy)

        def test(mutant: Mutant) -> Row:
            copy = copies.get()
            try:
                return Row(mutant=mutant, killed_by=killed_by(mutant, copy, arguments.stages))
            finally:
                copies.put(copy)

        for row in pool.map(test, mutants):
            print(f"{row.mutant.file}:{row.mutant.line}: {row.mutant.kind}: {row.killed_by or 'SURVIVED'}", flush=True)
            yield row


def run(arguments: argparse.Namespace) -> None:
    """Test the mutants that the file does not have, and append a row for each."""
    known = [row.mutant for row in read(arguments.file)]
    mutants = [mutant for mutant in draw(arguments.count, arguments.seed) if mutant not in known]
    with arguments.file.open("a") as sink:
        for row in test_all(mutants, arguments):
            sink.write(json.dumps(asdict(row)) + "\n")
            sink.flush()


def again(arguments: argparse.Namespace) -> None:
    """Test the survivors again, on the code and the tests of today."""
    rows = read(arguments.file)
    mutants: dict[int, Mutant] = {}
    for index, row in enumerate(rows):
        if not row.killed_by:
            same = [
                each
                for each in mutants_of(ROOT / row.mutant.file, ROOT)
                if Row(mutant=each, killed_by="").key == row.key
            ]
            if same:
                mutants[index] = min(same, key=lambda each: abs(each.start - row.mutant.start))
            else:
                print(f"{row.mutant.file}:{row.mutant.line}: {row.mutant.kind}: no longer in the code")
    for index, row in zip(mutants, test_all(list(mutants.values()), arguments), strict=True):
        rows[index] = row
        content = "".join(json.dumps(asdict(each)) + "\n" for each in rows).encode()
        write_atomic(arguments.file, lambda sink, content=content: sink.write(content))


def report(arguments: argparse.Namespace) -> None:
    """Print the score of each package and the survivors, as Markdown."""
    rows = read(arguments.file)
    entries = tomllib.loads(EQUIVALENT.read_text())["mutants"]
    reasons = {(each["file"], each["code"], each["changed"]): each["reason"] for each in entries}
    packages = {"all": rows}
    for row in rows:
        packages.setdefault(Path(row.mutant.file).parts[1], []).append(row)
    print("| package | mutants | killed | survived | equivalent | score |\n| --- | --- | --- | --- | --- | --- |")
    for package in sorted(packages):
        part = packages[package]
        killed = sum(bool(row.killed_by) for row in part)
        equivalent = sum(not row.killed_by and row.key in reasons for row in part)
        counts = (package, len(part), killed, len(part) - killed - equivalent, equivalent)
        print("| " + " | ".join(map(str, counts)) + f" | {killed / max(1, len(part) - equivalent):.1%} |")
    print("\n| survivor | change | reason |\n| --- | --- | --- |")
    for row in rows:
        if not row.killed_by:
            change = f"`{row.mutant.code}` to `{row.mutant.changed}`"
            cells = (f"{row.mutant.file}:{row.mutant.line}", change, reasons.get(row.key, "no test"))
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


def read(file: Path) -> list[Row]:
    """The rows of a file; none if it does not exist."""
    objects = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [Row(mutant=Mutant(**each["mutant"]), killed_by=each["killed_by"]) for each in objects]


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

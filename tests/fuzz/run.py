"""`python -m fuzz.run TARGET --count N [--first SEED]`: mutate a target's files and count the outcomes.

Each input is read in a separate process, forked from this one, with limits on memory and time. One JSON
object is printed: counts by outcome, and for each bad input its file, seed and the error. To repeat one of them:
`--first SEED --count 1`.

    right      read, and the target's check passed
    refused    UserError, Failure or Unreadable: one line for the user
    traceback  any other exception
    wrong      AssertionError of the target's check: read without an error, but wrong
    signal     the process ended by a signal
    timeout    no answer within the limit
"""

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distdl.core.errors import Failure, UserError
from distdl.data.files import Unreadable
from fuzz.mutations import mutate

LIMIT_S = 60
MEMORY_BYTES = 8 * 2**30
"""Limit of address space in addition to what the process has already mapped."""
BAD = ("traceback", "wrong", "signal", "timeout")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of input, in a module `fuzz.targets.NAME` as `TARGET`."""

    seeds: Callable[[Path], Mapping[str, bytes]]
    """Valid files by name. The folder is for creating them; it stays, and may contain other files that they need."""
    check: Callable[[Path, str, bytes], None]
    """Read one damaged file with distdl: scratch folder (a new one for each input, with the seeds' folder as its
    parent), the file's name among the seeds, its bytes. Returns if they were read correctly; raises
    AssertionError if they were read wrongly."""
    share: int
    """Weight of this target, by which the number of inputs is divided."""
    change: Callable[[bytes, int], bytes] = mutate
    """Changes a valid file as determined by a seed."""


def run(target: Target, first: int, count: int) -> dict[str, object]:
    """Run inputs `first` to `first + count`. Returns counts of outcomes, and the bad inputs."""
    outcomes: Counter[str] = Counter()
    bad = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = sorted(target.seeds(folder).items())
        for seed in range(first, first + count):
            file, content = seeds[seed % len(seeds)]
            outcome, detail = _outcome(target, folder, file, target.change(content, seed // len(seeds)))
            outcomes[outcome] += 1
            if outcome in BAD:
                bad.append({"file": file, "seed": seed, "outcome": outcome, "detail": detail})
    return {"outcomes": dict(outcomes), "bad": bad}


def _outcome(target: Target, folder: Path, file: str, content: bytes) -> tuple[str, str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()  # processes that the reader starts end with it
        _limit_memory()
        outcome, detail = _read(target, folder, file, content)
        os.write(writer, f"{outcome}\n{detail}"[:4000].encode(errors="replace"))
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + LIMIT_S
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    _end_group(child)
    if ended[0] == 0:
        os.waitpid(child, 0)
        os.close(reader)
        return "timeout", f"no answer within {LIMIT_S} s"
    with open(reader, encoding="utf-8", closefd=True) as source:  # noqa: PTH123 - a descriptor, not a path
        outcome, _, detail = source.read().partition("\n")
    if os.WIFSIGNALED(ended[1]):
        return "signal", signal.Signals(os.WTERMSIG(ended[1])).name
    return (outcome, detail) if outcome else ("traceback", f"exit code {os.waitstatus_to_exitcode(ended[1])}")


def _read(target: Target, folder: Path, file: str, content: bytes) -> tuple[str, str]:
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            target.check(Path(scratch), file, content)
        return "right", ""
    except (UserError, Failure, Unreadable) as error:
        return ("refused", str(error)) if "\n" not in str(error) else ("traceback", f"several lines: {error}")
    except AssertionError as error:
        return "wrong", str(error)
    except BaseException:
        return "traceback", traceback.format_exc()[-3500:]


def _limit_memory() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)


def _end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    target = importlib.import_module(f"fuzz.targets.{arguments.target}").TARGET
    print(json.dumps(run(target, arguments.first, arguments.count), indent=2))


if __name__ == "__main__":
    main()

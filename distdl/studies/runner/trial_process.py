"""The process of one trial: it is bound to its cores, ends when its runner ends, and runs a command or a function.

    python -m distdl.studies.runner.trial_process PARENT CORES -- COMMAND...     executes the command
    python -m distdl.studies.runner.trial_process PARENT CORES FOLDER            calls the function of
                                                 FOLDER/trial.json and writes result.json

PARENT is the process id of the runner. CORES are numbers separated by commas, or empty for all cores.
`distdl study run` starts it.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distdl.core.errors import EXIT_DONE, UserError
from distdl.core.targets import load
from distdl.runtime.process import end_with, require_program, run_command

USAGE = "usage: python -m distdl.studies.runner.trial_process PARENT CORES (FOLDER | -- COMMAND...)"


def main(argv: Sequence[str]) -> int:
    """Run a trial, or become its command. Returns the exit code."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv[:1]):
        print(f"{USAGE}\n\nRuns one trial; distdl study run starts it.")
        return EXIT_DONE
    if not _is_complete(argv):
        raise UserError(f"{USAGE}; distdl study run starts it")
    parent, cores, *rest = argv
    end_with(int(parent))
    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    if rest[0] == "--":
        require_program(rest[1])
        os.execvp(rest[1], rest[1:])
    return call(Path(rest[0]))


def _is_complete(argv: Sequence[str]) -> bool:
    if len(argv) < 3 or not re.fullmatch(r"\d+", argv[0]) or not re.fullmatch(r"(\d+(,\d+)*)?", argv[1]):
        return False
    return len(argv) > 3 if argv[2] == "--" else len(argv) == 3


def call(folder: Path) -> int:
    """Call a trial's function and write its result."""
    from distdl.core.files import write_json
    from distdl.core.run_files import RESULT
    from distdl.core.userfiles import read_json
    from distdl.studies.runner.trial_lock import RECORD

    record: dict[str, Any] = read_json(folder / RECORD)
    function = load(record["call"], "the function of this trial")
    result = function(folder, record["settings"])
    if not isinstance(result, dict):
        raise UserError(f"{record['call']} must return a dict, not {result!r:.60}")
    # The trial is completed and must not be started again: block signals until both files are written.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR2))
    write_json(folder / RESULT, result)
    write_json(folder / RECORD, record | {"status": "completed", "exit_code": EXIT_DONE, "reason": ""})
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

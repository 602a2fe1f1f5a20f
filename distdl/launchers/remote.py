"""`python -m distdl.launchers.remote COMMAND`: run a command for `distdl launch` on another host, at the end of an ssh.

The first line of stdin is a JSON object with environment variables, which command lines would show to all users of the
host. Each further line is the name of a signal for the command. At the end of stdin, when the connection or `distdl
launch` has ended, the command gets SIGTERM.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from distdl.core.errors import EXIT_DONE, UserError
from distdl.runtime.process import exit_process, require_program, run_command

MODULE = "distdl.launchers.remote"
USAGE = f"usage: python -m {MODULE} COMMAND"
MAX_LINE = 2**16
"""Maximum length of a line of stdin in bytes."""


def variables_line(variables: Mapping[str, str]) -> bytes:
    """The first line."""
    return json.dumps(dict(variables)).encode() + b"\n"


def print_variables(names: Iterable[str]) -> str:
    """A command of a POSIX shell that prints the first line from variables of the shell, which need no escapes."""
    pairs = ", ".join(f'"{name}": "%s"' for name in names)
    return " ".join(["printf", f"'{{{pairs}}}\\n'", *(f'"${name}"' for name in names)])


def signal_line(number: int) -> bytes:
    """The line that sends a signal."""
    return signal.Signals(number).name.encode() + b"\n"


def main(argv: Sequence[str], lines: BinaryIO) -> int:
    """Run a command. Returns its exit code, or 128 plus the number of the signal that ended it."""
    if {"-h", "--help"} & set(argv[:1]):
        print(f"{USAGE}\n\nRuns a command at the end of an ssh; distdl launch starts it.")
        return EXIT_DONE
    if not argv:
        raise UserError(f"{USAGE}; distdl launch starts it")
    try:
        variables = json.loads(lines.readline(MAX_LINE))
        environ = {**os.environ, **{str(name): str(value) for name, value in variables.items()}}
    except (ValueError, AttributeError):
        raise UserError("the first line of stdin must be a JSON object of environment variables") from None
    require_program(argv[0])
    process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_forward, args=(lines, process), daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _forward(lines: BinaryIO, process: subprocess.Popen[Any]) -> None:
    names = {each.name: each for each in signal.Signals}
    while line := lines.readline(MAX_LINE):
        if number := names.get(line.decode(errors="replace").strip()):
            process.send_signal(number)
    process.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    exit_process(run_command(lambda: main(sys.argv[1:], sys.stdin.buffer)))

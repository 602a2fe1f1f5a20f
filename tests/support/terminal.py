"""Run a command on a pseudo-terminal of a given width."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence


def run(argv: Sequence[str], columns: int = 80, environ: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """Run `argv`. Returns the exit code and the output of the terminal, with newlines as in Python."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    variables.pop("NO_COLOR", None)
    process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=variables, start_new_session=True)
    os.close(slave)
    received = bytearray()
    try:
        while chunk := os.read(master, 65536):
            received += chunk
    except OSError:  # EIO: the process has closed its end
        pass
    finally:
        os.close(master)
    return process.wait(), received.decode().replace("\r\n", "\n")

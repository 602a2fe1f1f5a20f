"""Run a command on a pseudo-terminal of a given width."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence


def run(
    argv: Sequence[str], columns: int = 80, environ: Mapping[str, str] = os.environ, *, interrupt_at: str = ""
) -> tuple[int, str]:
    """Run `argv`. Returns the exit code and the terminal's output, with newlines as in Python.

    Args:
        interrupt_at: text in the output after which the program gets SIGINT, as from Ctrl-C.
    """
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
            if interrupt_at and interrupt_at.encode() in received:
                os.killpg(process.pid, signal.SIGINT)
                interrupt_at = ""
    except OSError:  # EIO: the process has closed its end
        pass
    finally:
        os.close(master)
    return process.wait(), received.decode().replace("\r\n", "\n")

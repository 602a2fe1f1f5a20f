"""Exit of a command's process, and errors of parsers."""

import struct
import subprocess
import sys
import zipfile

import pytest

from distdl.core.errors import UserError, reading

EXITS = """
import atexit, threading
from distdl.runtime.process import exit_process

atexit.register(print, "at exit")
threading.Thread(target=threading.Event().wait).start()  # sys.exit would wait for it
print("printed", end=" ")
exit_process(75)
"""


def test_a_rank_exits_with_its_code_and_output_and_waits_for_no_thread():
    done = subprocess.run([sys.executable, "-c", EXITS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (75, "printed at exit\n", "")


@pytest.mark.parametrize(
    "error",
    [ValueError("odd\nvalue"), RecursionError(), zipfile.BadZipFile("bad CRC"), struct.error("unpack"), MemoryError()],
)
def test_any_error_of_a_parser_is_one_line_that_names_the_file(error: Exception) -> None:
    with pytest.raises(UserError, match=r"^photos\.tar cannot be read as a tar archive: ") as raised:
        with reading("photos.tar", "a tar archive"):
            raise error
    assert "\n" not in str(raised.value)
    assert type(error).__name__ in str(raised.value)


def test_errors_for_the_user_pass_a_reading_block_unchanged() -> None:
    with pytest.raises(UserError, match=r"^as it is$"), reading("file"):
        raise UserError("as it is")

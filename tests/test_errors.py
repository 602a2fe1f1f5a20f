"""How a command's process ends."""

import subprocess
import sys

LEAVES = """
import atexit, threading
from distdl.errors import leave

atexit.register(print, "at exit")
threading.Thread(target=threading.Event().wait).start()  # sys.exit would wait for it
print("printed", end=" ")
leave(75)
"""


def test_a_rank_leaves_with_its_code_and_what_it_printed_and_waits_for_no_thread():
    found = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (75, "printed at exit\n", "")

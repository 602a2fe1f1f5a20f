"""Memory kept by malloc: large freed blocks are reused without page faults."""

import platform
import subprocess
import sys

import pytest

PAGES_OF_TWICE_100_MB = """
import resource, sys
import numpy as np
from distdl.runtime.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
def step():
    return [np.full(12_500_000, 1.0) for _ in range(2)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_freed_memory_is_reused_without_page_faults():
    def faults(mode: str) -> int:
        argv = [sys.executable, "-c", PAGES_OF_TWICE_100_MB, mode]
        return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)

    # With huge pages there are 512 times fewer faults.
    assert faults("kept") < 10 < faults("default")

"""A small NVML library in C, compiled once; nvidia-ml-py loads it instead of a driver's library."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debian import needs

SOURCE = Path(__file__).with_name("nvml_fake.c")


def compile_nvml(folder: Path, *flags: str) -> Path:
    """Compile libnvidia-ml.so.1 into `folder`. Returns the folder."""
    compiler = needs("g++", program="gcc")
    folder.mkdir(parents=True, exist_ok=True)
    target = ["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run([compiler, "-Wall", "-Werror", "-O1", *flags, *target, str(SOURCE)], check=True)
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_nvml(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_nvml(tmp_path_factory.mktemp("old_driver"), "-DOLD_DRIVER")


@pytest.fixture
def ask(driver: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run Python code in a separate process that loads the small NVML. Returns the value that it assigned to `answer`.

    The code may call `put(text)` to change the state of the library.
    """

    def run(code: str, state: str = "", library: Path | None = driver, **environment: str) -> Any:
        file = tmp_path / "nvml.txt"
        file.write_text(state)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
        library_path = {"LD_LIBRARY_PATH": str(library)} if library else {}
        preamble = f"from pathlib import Path\nput = Path({str(file)!r}).write_text\n"
        program = preamble + code + "\nimport json\nprint(json.dumps(answer))"
        process = subprocess.run(
            [sys.executable, "-c", program],
            env={**clean, "NVML_FAKE_STATE": str(file), **library_path, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return run

"""What all tests share: real data laid out once, a clean environment, and no skip of a real part in CI."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from debian import needs, needs_namespaces

PACKED = Path(os.environ.get("DISTDL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Folder of packed real data sets with its unpack.py."""
pytest_plugins = ["nvml_driver"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distdl" / "test-data"

OF_MANY_PROCESSES = (
    "browser",
    "cli",
    "integration",
    "launchers",
    "perf",
    "profiling",
    "slurm",
    "strategies",
    "studies",
)
"""Folders whose tests start ranks, hosts, daemons and browsers, and wait for them."""

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine that others load too may once be too slow for real processes: they have a second try.

    The summary names each test that needed it (-rR): one that is named often is to be mended.
    """
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in OF_MANY_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Real data sets and weights as their distributors lay them out, unpacked once for all sessions."""
    if not (PACKED / "unpack.py").is_file():
        pytest.skip(f"no packed data sets at {PACKED}: set DISTDL_TEST_DATA to the folder that holds their unpack.py")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / "test-data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([sys.executable, PACKED / "unpack.py", CACHE], check=True, stdout=subprocess.DEVNULL)
    return CACHE


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test starts in a folder of its own, without the variables of a launcher, and leaves no process group."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "DISTDL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Measured statistics and unpacked archives go into the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "distdl"


@pytest.fixture
def root() -> None:
    """Skip where several hosts on one machine cannot be made."""
    needs_namespaces()


@pytest.fixture
def sshd(root: None) -> None:
    """Skip where hosts cannot reach each other by ssh."""
    needs("openssh-server", program="sshd")
    needs("openssh-client", program="ssh-keygen")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """In CI a real part that is missing is a failure: only what needs a GPU may be skipped there."""
    report = (yield).get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "GPU" not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where nothing but a GPU may be missing: {reason}"

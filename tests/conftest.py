"""Fixtures and hooks of all tests: real data unpacked once, a clean environment, and no skips in CI."""

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
    """Rerun once a test of real processes that fails, as other load on the machine may make it too slow.

    The summary names each such test (-rR): one that is named often must be fixed.
    """
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in OF_MANY_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Real data sets and weights in their distributors' layout, unpacked once for all sessions."""
    if not (PACKED / "unpack.py").is_file():
        pytest.skip(f"no packed data sets at {PACKED}: set DISTDL_TEST_DATA to the folder that holds their unpack.py")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / "test-data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([sys.executable, PACKED / "unpack.py", CACHE], check=True, stdout=subprocess.DEVNULL)
    return CACHE


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give each test its own folder without a launcher's variables, and destroy its process group."""
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
    """Cache of measured statistics and unpacked archives in the test's folder."""
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
    """Fail a skipped test in CI, unless it needs a GPU: every other dependency must be installed there."""
    report = (yield).get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "GPU" not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where only a GPU may be missing: {reason}"

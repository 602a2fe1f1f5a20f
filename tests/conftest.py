"""Fixtures and hooks of all tests: data sets unpacked once, a clean environment, and no skips in CI."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from debian import needs, needs_namespaces

PACKED = Path(os.environ.get("DISTDL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Folder of packed data sets with their unpack.py."""
pytest_plugins = ["nvml_driver"]
QUARANTINED = pytest.StashKey[int]()
"""Number of quarantined tests in this run."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distdl" / "test-data"

# A background job and nohup ignore signals; without this the programs of the tests would inherit it.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# Tests that run at the same time share the cores, and busy waiting takes them from each other. Read by torch's import.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def quarantined() -> dict[str, str]:
    """Tests that fail intermittently, with the reason: `quarantine.txt` has NODEID | REASON in each line."""
    text = Path(__file__).with_name("quarantine.txt").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return {name.strip(): reason.strip() for name, _, reason in (line.partition("|") for line in lines if line)}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without a serial test when those are run: to import all files takes longer than these tests."""
    if not config.getoption("markexpr").startswith("serial") or collection_path.suffix != ".py":
        return None
    return None if "mark.serial" in collection_path.read_text(encoding="utf-8") else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Rerun quarantined tests once if they fail."""
    names = quarantined()
    listed = [item for item in items if item.nodeid.split("[")[0].removeprefix("tests/") in names]
    for item in listed:
        item.add_marker(pytest.mark.flaky(reruns=1))
    config.stash[QUARANTINED] = len(listed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the number of quarantined tests."""
    terminalreporter.write_line(f"quarantined tests: {config.stash.get(QUARANTINED, 0)} (tests/quarantine.txt)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that is marked gpu on a host without one."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU: torch.cuda is not available")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Data sets and weights in their distributors' layout, unpacked once for all sessions."""
    if not (PACKED / "unpack.py").is_file():
        pytest.skip(
            f"no packed data sets at {PACKED}: set DISTDL_TEST_DATA to the folder that contains their unpack.py"
        )
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
    """Use a cache folder in the test's folder, and return its path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "distdl"


@pytest.fixture
def in_ranks(request: pytest.FixtureRequest) -> Callable[[Callable[[int], Any]], list[Any]]:
    """`rank_threads.run_ranks` with the number of ranks in the test's marker world_size."""
    from rank_threads import run_ranks

    return partial(run_ranks, request.node.get_closest_marker("world_size").args[0])


@pytest.fixture
def root() -> None:
    """Skip the test if hosts cannot be emulated on this machine."""
    needs_namespaces()


@pytest.fixture
def sshd(root: None) -> None:
    """Skip the test if hosts cannot connect by ssh."""
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

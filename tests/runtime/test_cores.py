"""Available cores: affinity, control groups, other ranks, other programs; and pinning of ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distdl.runtime import cores
from distdl.runtime.cores import Usage

V2 = {"a/cpu.max": "max 100000", "a/b/cpu.max": "150000 100000", "a/b/c/cpu.max": "400000 100000"}
V1 = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
GROUPS = {
    "no limit": ("0::/a", V2, float("inf")),
    "the quota of the group": ("0::/a/b", V2, 1.5),
    "a smaller quota of a parent": ("0::/a/b/c", V2, 1.5),
    "a container that shows its group as the root": ("0::/docker/x", {"cpu.max": "200000 100000"}, 2.0),
    "version 1 without a quota": ("4:memory:/x\n1:cpu:/", V1, float("inf")),
    "version 1": ("1:cpu:/x", V1 | {"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"}, 0.5),
    "version 1, joint": (
        "3:cpu,cpuacct:/x",
        {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        3.0,
    ),
    "both versions": ("1:name=systemd:/\n0::/a", {"unified/a/cpu.max": "100000 50000"}, 2.0),
    "invalid values": ("0::/a", {"a/cpu.max": "many few"}, float("inf")),
    "one word": ("0::/a", {"a/cpu.max": "max"}, float("inf")),
}


@pytest.mark.parametrize(("membership", "files", "expected"), GROUPS.values(), ids=GROUPS)
def test_the_smallest_quota_from_the_group_to_the_root_is_used(
    membership: str, files: dict[str, str], expected: float, tmp_path: Path
) -> None:
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "cgroup").write_text(membership + "\n")
    assert cores.quota(tmp_path / "groups", tmp_path / "cgroup") == expected


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cores.quota(tmp_path, tmp_path / "none") == float("inf")


SHARED = {
    # (cores of this rank, cores of its launcher, ranks per host, quota) -> cores of a rank
    "a cpuset of 16 of 128 cores for 8 ranks": (16, 16, 8, float("inf"), 2),
    "a launcher that binds each rank to a core": (1, 8, 8, float("inf"), 1),
    "a launcher that binds two ranks to a socket": (8, 16, 4, float("inf"), 4),
    "a rank that was pinned to half of the cores": (4, 8, 2, float("inf"), 4),
    "one rank": (6, 128, 1, float("inf"), 6),
    "a container with a quota of 4 cores": (64, 64, 2, 4.0, 2),
    "less than a core": (64, 64, 4, 1.5, 1),
    "a launcher that has ended": (8, None, 2, float("inf"), 4),
}


@pytest.mark.parametrize(("available", "launcher", "ranks", "quota", "expected"), SHARED.values(), ids=SHARED)
def test_ranks_that_share_cores_divide_them(
    available: int, launcher: int | None, ranks: int, quota: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def affinity(pid: int = 0) -> list[int]:
        if pid and launcher is None:
            raise ProcessLookupError
        return list(range(launcher if pid else available))

    monkeypatch.setattr(cores, "affinity", affinity)
    monkeypatch.setattr(cores, "quota", lambda: quota)
    monkeypatch.setattr(os, "process_cpu_count", lambda: available, raising=False)
    assert cores.cores(ranks) == expected


def test_usage_is_read_and_grows() -> None:
    start = cores.usage()
    sum(i * i for i in range(300_000))
    end = cores.usage()
    assert end.process > start.process and end.at > start.at
    assert set(cores.affinity()) <= set(end.by_core)
    assert all(end.by_core[core] >= start.by_core[core] for core in start.by_core)


BUSY = {
    "a quiet machine": ({0: 0.0, 1: 0.1}, 0.1, 1, 0.0),
    "only this process": ({0: 9.0, 1: 0.5}, 9.5, 1, 0.0),
    "two ranks that start at the same time": ({0: 9.5, 1: 9.5}, 9.5, 2, 0.0),
    "another program on one core": ({0: 10.0, 1: 9.0}, 9.0, 1, 1.0),
    "a core that this process may not use": ({0: 5.0, 7: 10.0}, 5.0, 1, 0.0),
}


@pytest.mark.parametrize(("used", "process", "ranks", "expected"), BUSY.values(), ids=BUSY)
def test_usage_of_other_programs_excludes_this_job(
    used: dict[int, float], process: float, ranks: int, expected: float
) -> None:
    start = Usage(dict.fromkeys(used, 100.0), 5.0, 50.0)
    end = Usage({core: 100.0 + seconds for core, seconds in used.items()}, 5.0 + process, 60.0)
    assert cores.busy_cores(start, end, [0, 1], ranks) == pytest.approx(expected)


def test_busy_cores_give_a_one_line_warning() -> None:
    assert cores.warning(0.2, 2) == cores.warning(0.499, 2) == ""
    assert "other programs use 0.5 of" in cores.warning(0.5, 2)
    assert "other programs use 1.9 of this process's 2 cores" in cores.warning(1.9, 2)


@pytest.mark.parametrize("given", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_setting_of_thread_waiting_is_kept(given: str) -> None:
    environ = {given: "7"}
    cores.passive_waiting(environ)
    assert environ == {given: "7"}


PROBE = """
import os, sys
from distdl.train import main
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and "GOMP_SPINCOUNT" not in os.environ:
            print("torch was imported first"); os._exit(3)
sys.meta_path.insert(0, Watch())
assert "torch" not in sys.modules
code = main(["--profile", "digits", "--max-steps", "1", "--progress", "none", "--out", sys.argv[1]])
print("spins", os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
sys.exit(code)
"""


def test_passive_waiting_is_set_before_torch_is_imported(tmp_path: Path) -> None:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    argv = [sys.executable, "-c", PROBE, str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, env=quiet, timeout=300)
    assert (done.returncode, done.stdout.strip().splitlines()[-1]) == (0, f"spins {cores.SPINS} True"), done.stderr

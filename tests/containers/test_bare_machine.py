"""Commands of the README on a Debian system with only the programs that it names: Python, git and make."""

import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian import needs
from repository import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
SUITE, INCLUDED = "bookworm", "python3,python3-venv,git,make,ca-certificates"
SETTINGS = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_", "HTTP_", "HTTPS_", "NO_PROXY", "http_", "https_")
"""Environment variables of the package registries, as outside of the root folder."""
TESTS = (
    "tests/cli/test_doctor.py tests/launchers tests/containers tests/telemetry/test_nvml.py tests/slurm tests/browser"
)
"""Commands that use programs of optional packages."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root folder with the working tree in /distdl; it is built once and kept as an archive."""
    debootstrap = needs("debootstrap", program="debootstrap", root=True)
    archive, root = CACHE / "distdl" / f"bare-{SUITE}.tar", tmp_path_factory.mktemp("bare") / "root"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            partial_root = root.with_name("partial")
            options = ["--variant=minbase", f"--include={INCLUDED}"]
            subprocess.run([debootstrap, *options, SUITE, partial_root, "http://deb.debian.org/debian"], check=True)
            part = archive.with_suffix(".part")
            subprocess.run(["tar", "-C", partial_root, "-cf", part, "."], check=True)
            part.rename(archive)
            shutil.rmtree(partial_root)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", archive], check=True)
    listed = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, check=True).stdout.decode().split("\0"):
        if (ROOT / name).is_file():
            (root / "distdl" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / "distdl" / name)
    yield root
    shutil.rmtree(root, ignore_errors=True)


def inside(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in the root folder; mounts and processes end with it."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    shared = [Path(f"/etc/{name}") for name in ("hosts", "resolv.conf", "pip.conf")]
    shared += [Path.home() / ".config/pip", CACHE / "uv", CACHE / "pip"]
    shared += [Path(word) for value in settings.values() for word in value.replace("file://", "").split()]
    mounts = ["mount -t proc proc proc", "mount --rbind /dev dev", "mount -t tmpfs tmpfs dev/shm"]
    for path in dict.fromkeys(path for path in shared if path.is_absolute() and path.exists()):
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        mounts.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(target))}")
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8", **settings}
    within = shlex.join(["chroot", ".", "sh", "-c", f"cd /distdl && {command}"])
    script = " && ".join(["mount --make-rprivate /", *mounts, within])
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.serial
def test_the_commands_of_the_readme(bare: Path) -> None:
    for program in ("ping", "ip", "tc", "g++", "ssh", "sbatch", "shellcheck", "chromium"):
        assert inside(bare, f"! command -v {program}").returncode == 0, (
            f"{program} is installed, so the test would prove nothing"
        )
    done = inside(bare, "make train")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "digits: completed" in done.stdout
    done = inside(bare, f"make test ARGS='-rs -q {TESTS}'")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    for package in ("iproute2", "shellcheck", "g++", "chromium", "munge"):
        assert f"apt-get install {package}" in done.stdout
    assert " failed" not in done.stdout

"""Several hosts on one machine: network namespaces connected by a bridge, each link limited to a given rate.

    with Hosts(count=3, rate="1gbit") as hosts:
        hosts.run(["ping", "-c1", "h2"], on=0)

A host has a name (h0, h1, ...), an address, an /etc/hosts with the other hosts, and a link named eth0. With `ssh=True`
the hosts reach each other as in a cluster: `ssh h1` needs no password. The bridge has its own namespace, so that the
machine's network does not change.

Namespaces outlive the process that created them. Their names contain its pid and start time: a later process removes
namespaces whose owner has exited, and never those of a running process.

`distdl hosts --count 3 --rate 1gbit -- COMMAND` runs a command on every host at once.
"""

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distdl.core.errors import UserError

PREFIX = "distdl"
NAMESPACES, FILES = Path("/run/netns"), Path("/etc/netns")
"""Folders of `ip netns`: namespaces, and the files that it mounts over /etc for a process in one of them."""
LINK = "eth0"
INTERFACE = {"GLOO_SOCKET_IFNAME": LINK, "NCCL_SOCKET_IFNAME": LINK, "TP_SOCKET_IFNAME": LINK}
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)bit")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_CLONE_NEWNET = 0x40000000  # os.setns needs Python 3.12
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Host:
    """One emulated host."""

    name: str
    address: str
    namespace: str


class Hosts:
    """Hosts that exist inside a `with` block.

    Args:
        count: number of hosts.
        rate: of each host's link, in each direction, as in tc ("1gbit", "100mbit"); None: no limit.
        ssh: start an sshd on each host, with a key that all hosts accept.
    Raises:
        UserError: on entry, without root or without the required programs.
    """

    def __init__(self, count: int, rate: str | None = "1gbit", *, ssh: bool = False) -> None:
        if not 1 <= count <= 250:
            raise UserError(f"{count} hosts on one machine: give 1 to 250")
        self.rate_bits = parse_rate(rate) if rate else None
        self.ssh = ssh
        stem = f"{PREFIX}-{os.getpid()}-{_start_time(os.getpid())}-{next(_numbers)}"
        self.switch = f"{stem}-switch"
        self.hosts = [
            Host(name=name, address=f"10.77.0.{index + 1}", namespace=f"{stem}-{name}")
            for index, name in enumerate(names(count))
        ]
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        _require(ssh=self.ssh)
        clear_stale()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def command(self, command: Sequence[str], on: int = 0) -> list[str]:
        """The command line that runs a command on host `on`, in its network and with its host name."""
        host = self.hosts[on]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host.name]
        return ["ip", "netns", "exec", host.namespace, *named, *command]

    def start(
        self, command: Sequence[str], on: int = 0, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command on host `on`. It is killed when the hosts are removed.

        Args:
            env: variables in addition to those of this process.
            options: for `subprocess.Popen`. The process has the pid of the command itself.
        """
        process = subprocess.Popen(self.command(command, on), env={**os.environ, **INTERFACE, **(env or {})}, **options)
        self._processes.append(process)
        return process

    def run(
        self,
        command: Sequence[str],
        on: int = 0,
        env: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on host `on` to its end. Its output is captured as text unless `options` redirect it."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        with self.start(command, on, env, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(command), process.returncode, out, err)

    def close(self) -> None:
        """Kill the processes of the hosts, and remove the hosts."""
        for name in (*(host.namespace for host in self.hosts), self.switch):
            _remove(name)
        for process in self._processes:
            process.wait()

    def _build(self) -> None:
        self._lay_files()
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge0", "up")
        for index, host in enumerate(self.hosts):
            port = f"port{index}"
            _ip("netns", "add", host.namespace)
            link = ["link", "add", LINK, "netns", host.namespace, "type", "veth"]
            _ip(*link, "peer", "name", port, "netns", self.switch)
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", LINK)
            for namespace, device in ((host.namespace, "lo"), (host.namespace, LINK), (self.switch, port)):
                _ip("-n", namespace, "link", "set", device, "up")
            _ip("-n", self.switch, "link", "set", port, "master", "bridge0")
            if self.rate_bits:
                # A qdisc limits what leaves a device: the host's end for sending, the bridge's end for receiving.
                _shape(host.namespace, LINK, self.rate_bits)
                _shape(self.switch, port, self.rate_bits)
        if self.ssh:
            self._start_ssh()

    def _lay_files(self) -> None:
        lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in self.hosts)]
        for host in self.hosts:
            folder = FILES / host.namespace
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("\n".join(lines) + "\n", encoding="utf-8")
            if Path("/etc/nsswitch.conf").exists():  # no name server is reachable: a query takes seconds
                (folder / "nsswitch.conf").write_text(_NAMES, encoding="utf-8")
            if self.ssh:
                self._lay_ssh(folder / "ssh")

    def _lay_ssh(self, folder: Path) -> None:
        """Write /etc/ssh of a host: one key, used as host key and user key, and settings that accept it."""
        first = FILES / self.hosts[0].namespace / "ssh"
        if folder == first:
            folder.mkdir()
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", PREFIX, "-f", str(folder / "key")]
            subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
            (folder / "ssh_config").write_text(_SSH, encoding="utf-8")
            # Otherwise a session has sshd's default PATH, which lacks torchrun and orted of this environment.
            (folder / "sshd_config").write_text(_SSHD + f'SetEnv PATH="{os.environ["PATH"]}"\n', encoding="utf-8")
        else:
            shutil.copytree(first, folder)

    def _start_ssh(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        daemons = []
        for index, host in enumerate(self.hosts):
            log = (FILES / host.namespace / "ssh" / "sshd.log").open("wb")
            with log:
                daemons.append(self.start([_sshd() or "sshd", "-D", "-e"], index, stdin=subprocess.DEVNULL, stderr=log))
        deadline = time.monotonic() + 10
        for daemon, host in zip(daemons, self.hosts, strict=True):
            while not _listens(daemon.pid, port=22):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    log_text = (FILES / host.namespace / "ssh" / "sshd.log").read_text(encoding="utf-8").strip()
                    raise UserError(f"sshd did not start on {host.name}: {log_text or 'its log is empty'}")
                time.sleep(0.02)


_NAMES = """\
passwd: files
group: files
shadow: files
hosts: files
"""
_SSH = """\
IdentityFile /etc/ssh/key
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
"""
_SSHD = """\
HostKey /etc/ssh/key
AuthorizedKeysFile /etc/ssh/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
MaxStartups 200
"""


def names(count: int) -> tuple[str, ...]:
    """Host names: h0, h1, ..."""
    return tuple(f"h{index}" for index in range(count))


def parse_rate(rate: str) -> float:
    """Bits per second of a rate in tc's notation: "1gbit" is 1e9.

    Raises:
        UserError: for anything else.
    """
    match = _RATE.fullmatch(rate)
    if not match or not float(match[1]):
        raise UserError(f'--rate "{rate}" is not a rate: write it as 1gbit or 100mbit')
    return float(match[1]) * _UNITS[match[2]]


def enter(namespace: str) -> None:
    """Move the calling thread, and what it starts, into a host's network: for a forked rank, before it connects.

    A process that `Hosts.start` starts there imports torch again; one that is forked from a process with torch does
    not.
    """
    with (NAMESPACES / namespace).open(encoding="utf-8") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {namespace}: {os.strerror(number)}")


def clear_stale() -> list[str]:
    """Remove namespaces of processes that have exited. Returns their names."""
    names = {path.name for folder in (NAMESPACES, FILES) if folder.is_dir() for path in folder.glob(f"{PREFIX}-*")}
    stale = sorted(name for name in names if not _owned(name))
    for name in stale:
        _remove(name)
    return stale


def _owned(name: str) -> bool:
    """Whether the process that created a namespace is running; also true for names of another form."""
    match = re.fullmatch(rf"{PREFIX}-(\d+)-(\d+)-\d+-\w+", name)
    return not match or _start_time(int(match[1])) == int(match[2])


def _start_time(pid: int) -> int | None:
    """Start time of a process in ticks after boot (pids are reused); None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def _remove(name: str) -> None:
    """Kill every process in a namespace and remove it, unless another process already has."""
    deadline = time.monotonic() + 10
    while pids := _pids(name):
        for pid in pids:
            _kill(pid)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "delete", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(FILES / name, ignore_errors=True)


def _pids(name: str) -> list[int]:
    """Processes in a namespace, except zombies."""
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [pid for pid in map(int, listed.stdout.split()) if _start_time(pid) is not None]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _shape(namespace: str, device: str, bits_per_s: float) -> None:
    # The bucket holds 2 ms of traffic, the timer delay of a busy machine. With a larger bucket, a transfer of a
    # quarter of a second would measure more than the rate.
    burst = max(16 * 1024, int(bits_per_s / 8 * 0.002))
    shape = ["root", "tbf", "rate", f"{bits_per_s:.0f}bit", "burst", f"{burst}b", "latency", "50ms"]
    _call(["tc", "-n", namespace, "qdisc", "add", "dev", device, *shape])


def _listens(pid: int, port: int) -> bool:
    """Whether a process listens on a TCP port in the network of process `pid`, once that has moved there."""
    try:
        rows = Path(f"/proc/{pid}/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
        moved = Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except OSError:
        return False
    fields = [row.split() for row in rows]
    return moved and any(field[1].endswith(f":{port:04X}") and field[3] == "0A" for field in fields)


def _sshd() -> str | None:
    return shutil.which(
        "sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    )  # sshd must be started by its full path


def _require(*, ssh: bool) -> None:
    if sys.platform != "linux":
        raise UserError("several hosts on one machine need Linux (network namespaces)")
    if os.geteuid() != 0:
        raise UserError("several hosts on one machine need root (network namespaces): run with sudo")
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("unshare", "util-linux")):
        if not shutil.which(program):
            raise UserError(f"{program} is not installed; it comes with: apt-get install {package}")
    if ssh and not (_sshd() and shutil.which("ssh-keygen")):
        raise UserError("sshd is not installed; it comes with: apt-get install openssh-server")


def _ip(*arguments: str) -> None:
    _call(["ip", *arguments])


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"cannot create a host: {' '.join(command)}: {done.stderr.strip()}")

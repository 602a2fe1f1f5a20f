"""What to start and where (`Job`), and the command line for it (`Command`): a launcher makes one from the other."""

import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError
from distdl.core.hosts import is_loopback
from distdl.core.profiles import Recipe


def arguments(recipe: Recipe) -> tuple[str, ...]:
    """The arguments of `distdl.train` that give this recipe."""
    rendered = ["--profile", recipe.profile]
    for name, value in recipe.overrides.items():
        section, dot, field = name.replace("_", "-").rpartition(".")
        option = f"--{section}{dot}{field}"
        if isinstance(value, bool):
            rendered.append(option if value else f"--{section}{dot}no-{field}")
        elif isinstance(value, Mapping):
            rendered += [option, *(f"{key}.{setting}={each}" for key in value for setting, each in value[key].items())]
        elif isinstance(value, list | tuple):
            rendered += [option, *_texts(value)]
        elif value is not None:
            text = str(value)
            rendered += [option, text] if text and not text.startswith("-") else [f"{option}={text}"]
    return tuple(rendered)


def _texts(values: Any) -> Iterator[str]:
    """Values as text, groups of values one after the other."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _texts(value)
        else:
            yield str(value)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program on every rank of one or several hosts."""

    argv: tuple[str, ...] = ()
    """The program's arguments."""
    module: str = "distdl.train"
    nproc: int = 1
    """Ranks on each host."""
    hosts: tuple[str, ...] = ()
    """By the names under which they reach each other; none is this machine alone."""
    interface: str = ""
    """Network interface (eth0, ib0) that the ranks talk over; empty lets each library choose."""
    rate: str = "1gbit"
    """netns: of each host's link, each way."""
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Tells this launch from all others on the same hosts; hexadecimal."""
    port: int = 0
    """Of the rendezvous, on the first host; 0 derives one from `run_id`."""
    here: str = "localhost"
    """This machine's own name: a host of that name is not reached by ssh."""
    folder: str = ""
    """Where the programs are on every host (a virtual environment's bin/); empty takes them from PATH."""
    directory: str = ""
    """Working directory on every host; empty is where ssh arrives."""
    root: bool = False
    """Started by root, which mpirun refuses unless it is told to."""

    @property
    def size(self) -> int:
        """Ranks in all."""
        return self.nproc * max(len(self.hosts), 1)

    @property
    def meeting(self) -> str:
        """The host where the ranks meet."""
        return self.hosts[0] if self.hosts else "127.0.0.1"

    @property
    def master_port(self) -> int:
        """The port of the rendezvous: below those that Linux gives to outgoing connections."""
        return self.port or 20000 + int(self.run_id, 16) % 12000

    @property
    def slots(self) -> str:
        """Hosts and their ranks as horovodrun and mpirun want them: "h0:2,h1:2".

        Raises:
            UserError: for an IPv6 address, which this notation cannot hold.
        """
        if any(":" in host for host in self.hosts):
            raise UserError("this launcher takes no IPv6 addresses: use host names, or --with torchrun")
        return ",".join(f"{host}:{self.nproc}" for host in self.hosts or ("localhost",))

    @property
    def variables(self) -> dict[str, str]:
        """What tells gloo and NCCL the interface."""
        return dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), self.interface) if self.interface else {}

    def program(self, name: str) -> str:
        """A program of the environment that distdl is in."""
        return f"{self.folder}/{name}" if self.folder else name

    @property
    def python(self) -> tuple[str, ...]:
        """One rank's own command."""
        return (self.program("python"), "-m", self.module, *self.argv)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line that a person can copy."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that are set already."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text files that it reads, by name in the working directory."""

    def shell(self) -> str:
        """As one line for a POSIX shell."""
        written = "".join(
            f"printf '%s\\n' {shlex.join(text.splitlines())} > {shlex.quote(name)} && "
            for name, text in self.files.items()
        )
        variables = "".join(f"{name}={shlex.quote(value)} " for name, value in self.env.items())
        return written + variables + shlex.join(self.argv)

    def on(self, host: str, directory: str = "") -> "Command":
        """The same on another host by ssh.

        The terminal (-tt) is what ends it there when this end goes, and carries an interrupt as Ctrl-C does.
        """
        move = f"cd {shlex.quote(directory)} && " if directory else ""
        return Command(argv=("ssh", "-tt", "--", host, move + self.shell()))


def everywhere(job: Job, commands: list[Command]) -> list[Command]:
    """One command for each of the job's hosts, by ssh unless the host is this one."""
    names = job.hosts or (job.here,)
    pairs = zip(names, commands, strict=True)
    return [
        command if host == job.here or is_loopback(host) else command.on(host, job.directory) for host, command in pairs
    ]


def bin_folder(*, near: bool) -> str:
    """Where this Python's programs are; empty if a shell finds them there anyway, as only one of this machine does."""
    folder = Path(sys.executable).parent
    found = shutil.which("python")
    return "" if near and found and Path(found).parent == folder else str(folder)

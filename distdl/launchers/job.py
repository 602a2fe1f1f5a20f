"""A program on several ranks (`Job`) and a command line (`Command`). A launcher is a function from one to the other."""

import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError
from distdl.core.hosts import is_loopback
from distdl.core.profiles import Recipe
from distdl.launchers import remote
from distdl.runtime.channel import KEY_BYTES
from distdl.runtime.launch_env import KEY, store_ports


def arguments(recipe: Recipe) -> tuple[str, ...]:
    """The arguments of `distdl.train` that give this recipe."""
    rendered = [f"--profile={recipe.profile}"] if recipe.profile.startswith("-") else ["--profile", recipe.profile]
    for name, value in recipe.overrides.items():
        section, dot, field = name.replace("_", "-").rpartition(".")
        option = f"--{section}{dot}{field}"
        if isinstance(value, bool):
            rendered.append(option if value else f"--{section}{dot}no-{field}")
        elif isinstance(value, Mapping):
            settings = [f"{key}.{setting}={each}" for key in value for setting, each in value[key].items()]
            rendered += [option, *settings] if settings else []
        elif isinstance(value, list | tuple):
            rendered += [option, *_texts(value)]
        else:
            text = str(value)  # "None" is the text of no value
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
    """Host names under which the hosts reach each other; empty: this machine only."""
    interface: str = ""
    """Network interface (eth0, ib0) for communication; empty: each library selects one."""
    rate: str = "1gbit"
    """netns: rate of each host's link, in each direction."""
    key: str = field(default_factory=lambda: secrets.token_hex(KEY_BYTES), repr=False)
    """Key of this launch, as hexadecimal digits: only processes with it can connect to the ranks' store."""
    port: int = 0
    """Port of the ranks' store on the first host; 0: derived from the key."""
    local_host: str = "localhost"
    """Name of this machine: no ssh is used for this host."""
    bin_dir: str = ""
    """Folder of the programs on every host (bin/ of a virtual environment); empty: PATH."""
    directory: str = ""
    """Working directory on every host; empty: the home directory of ssh."""
    root: bool = False
    """Whether root starts the job, which mpirun needs an option for."""

    @property
    def size(self) -> int:
        """Total number of ranks."""
        return self.nproc * max(len(self.hosts), 1)

    @property
    def rendezvous_host(self) -> str:
        """Host of the rendezvous."""
        return self.hosts[0] if self.hosts else "127.0.0.1"

    @property
    def master_port(self) -> int:
        """A port on the first host, for a launcher that must be given one."""
        return self.port or store_ports(bytes.fromhex(self.key))[0]

    @property
    def port_variable(self) -> dict[str, str]:
        """The port for the ranks, if the user has chosen one."""
        return {"MASTER_PORT": str(self.port)} if self.port else {}

    @property
    def secrets(self) -> dict[str, str]:
        """Environment variables that only the ranks may know."""
        return {KEY: self.key}

    @property
    def slots(self) -> str:
        """Hosts and their ranks in the notation of horovodrun and mpirun: "h0:2,h1:2".

        Raises:
            UserError: for an IPv6 address, which this notation does not allow.
        """
        if any(":" in host for host in self.hosts):
            raise UserError("this launcher does not accept IPv6 addresses: use host names, or --with direct")
        return ",".join(f"{host}:{self.nproc}" for host in self.hosts or ("localhost",))

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that set the interface of gloo and NCCL."""
        return dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), self.interface) if self.interface else {}

    def program(self, name: str) -> str:
        """Path of a program in the environment of distdl."""
        return f"{self.bin_dir}/{name}" if self.bin_dir else name

    @property
    def python(self) -> tuple[str, ...]:
        """The command of one rank."""
        return (self.program("python"), "-P", "-m", self.module, *self.argv)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line that a user can copy."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables, in addition to those of the process."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables that are not printed, and are not in a command line that all users of a host can read."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text files that the command reads, by name in the working directory."""

    def shell(self) -> str:
        """Render the command as one line for a POSIX shell, whose variables have the values of `secrets`."""
        written = "".join(
            f"printf '%s\\n' {shlex.join(text.splitlines())} > {shlex.quote(name)} && "
            for name, text in self.files.items()
        )
        variables = "".join(f"{name}={shlex.quote(value)} " for name, value in self.env.items())
        line = written + variables + shlex.join(self.argv)
        return f"{{ {remote.print_variables(self.secrets)}; cat; }} | {line}" if self.argv[0] == "ssh" else line

    def on(self, host: str, directory: str = "", python: str = "python") -> "Command":
        """The same command on another host by ssh; `launchers.remote` gives it the secrets and signals.

        Args:
            directory: working directory; empty: the home directory.
            python: program on that host, with distdl.
        """
        move = f"cd {shlex.quote(directory)} && " if directory else ""
        line = replace(self, argv=(python, "-P", "-m", remote.MODULE, *self.argv)).shell()
        return Command(argv=("ssh", "-T", "--", host, move + line), secrets=self.secrets)


def everywhere(job: Job, commands: list[Command]) -> list[Command]:
    """One command for each host of the job, by ssh unless the host is this machine."""
    names, python = job.hosts or (job.local_host,), job.program("python")
    pairs = zip(names, commands, strict=True)
    return [
        command if host == job.local_host or is_loopback(host) else command.on(host, job.directory, python)
        for host, command in pairs
    ]


def bin_folder(*, near: bool) -> str:
    """Folder of the programs of this Python; empty if it is on PATH and `near` (only this machine runs them)."""
    folder = Path(sys.executable).parent
    python = shutil.which("python")
    return "" if near and python and Path(python).parent == folder else str(folder)

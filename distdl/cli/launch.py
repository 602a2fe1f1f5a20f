"""`distdl launch -- ARGUMENTS`: a training on several ranks, by any launcher."""

import os
import re
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from distdl.cli.arguments import OtherNames
from distdl.core import registry
from distdl.core.config import Positive
from distdl.core.errors import EXIT_DONE, EXIT_STOPPED, UserError, as_literal
from distdl.core.paths import current_folder
from distdl.core.registry import known_in
from distdl.core.result import read_result
from distdl.core.text import print_line
from distdl.runtime.process import Terminated

if TYPE_CHECKING:
    from distdl.launchers.job import Job
_INTERFACES = re.compile(r"[A-Za-z0-9._:@,=^-]+")
"""Names of interfaces with commas between them, also in the notations of gloo and NCCL."""

NEW_KEY = "export DISTDL_KEY=$(od -A n -N 32 -t x1 -v /dev/urandom | tr -d ' \\n')"
"""Line of a shell before the printed commands, which need a key: they do not show the one of this launch."""
RANKS = OtherNames.of("n", "np", "num-proc", "ranks", "nproc-per-node", "ntasks", "ntasks-per-node", "processes")
HOSTS = OtherNames.of("h", "w", "host", "nodes", "nnodes", "nodelist", "hostfile", "machinefile")
"""Names of two options in torchrun, mpirun, horovodrun, srun and deepspeed."""


def launch(
    arguments: tyro.conf.Positional[tuple[str, ...]],
    *,
    with_: Annotated[str, known_in("launchers"), tyro.conf.arg(name="with")] = "direct",
    hosts: Annotated[str, HOSTS] = "",
    nproc: Annotated[Positive, RANKS, OtherNames.of("gpus", "gpus-per-node", "num-gpus")] = 1,
    interface: str = "",
    rate: str = "1gbit",
    port: Annotated[int, Field(ge=0, lt=2**16), OtherNames.of("master-port", "rdzv-port")] = 0,
    dry_run: bool = False,
) -> int:
    """Start a training with any launcher: print the command and run it; --dry-run only prints it.

    The exit code is the launcher's, or 75 if the training was stopped by a signal (Ctrl-C) or --max-time; then the last
    line of the output is the command that resumes it. A signal before the first step gives 130 (Ctrl-C) or 143.

    Args:
        arguments: arguments of distdl train, after `--`.
        with_: the launcher; netns emulates several hosts on this machine and needs root.
        hosts: host names as in node01,node02 or node[01-04,07]; for netns, their number; default: this machine.
        nproc: ranks on each host.
        interface: network interface for communication: eth0, ib0, ...
        rate: netns: rate of each host's link in each direction: 1gbit, 100mbit, ...
        port: port of the rendezvous on the first host; 0: a different one for each launch.
        dry_run: only print the command.
    """
    from distdl.cli.recipe import recipe
    from distdl.core.profiles import resolve
    from distdl.core.run_files import default_path
    from distdl.launchers import job as jobs
    from distdl.training.resume_command import resume_command

    training = recipe(arguments, prog="distdl launch ... --")
    # A user's error is reported here once, not by every rank.
    config = resolve(training, strategy=_strategy(with_) or "ddp")
    if with_ == "deepspeed" and config.strategy == "auto":  # its ranks cannot distinguish its launcher from others
        training = training.updated({"strategy": "deepspeed"})
    out = config.out or default_path(config.name)
    if not dry_run:  # known here, so that the training can be resumed whatever the launcher prints
        training = training.updated({"out": str(out)})
    job = new_job(jobs.arguments(training), with_, hosts, nproc, interface=interface, rate=rate, port=port)
    _check_strategy(config.strategy, with_, job.size)
    previous = _result(out)
    code = start(with_, job, dry_run=dry_run)
    if code == EXIT_DONE or (result := _result(out)) == previous or result.get("status") != "stopped":
        return report_signal(code)
    print_line(f"resume with: {resume_command(out.resolve())}")
    return EXIT_STOPPED


def _result(run: Path) -> dict[str, Any]:
    """result.json of a run folder; empty if there is none that can be read."""
    try:
        return read_result(run)
    except (UserError, OSError):
        return {}


def _strategy(launcher: str) -> str:
    """The only strategy that a launcher starts, and then what `strategy = "auto"` is under it; empty if it has none."""
    return registry.find("launchers", launcher).traits.get("strategy", "")


def _check_strategy(strategy: str, launcher: str, ranks: int) -> None:
    """Refuse a strategy that this launcher cannot start.

    Raises:
        UserError: naming both, and a launcher for the strategy.
    """
    only = _strategy(launcher)
    if only and strategy not in ("auto", only):
        fits = next((name for name in registry.rows("launchers") if _strategy(name) == strategy), "direct")
        raise UserError(f"--with {launcher} starts strategy {only}, but strategy is {strategy}: use --with {fits}")
    if strategy == "horovod" and launcher not in ("horovodrun", "mpirun"):
        raise UserError(f"--with {launcher} does not start strategy horovod: use --with horovodrun")
    if strategy == "single" and ranks > 1:
        raise UserError(f"strategy single takes one process, but {ranks} ranks were requested: use --strategy ddp")


def new_job(
    argv: tuple[str, ...], launcher: str, hosts: str, nproc: int, *, interface: str, rate: str, port: int
) -> "Job":
    from distdl.core.hosts import is_loopback
    from distdl.launchers import netns
    from distdl.launchers.job import Job, bin_folder

    netns.parse_rate(rate)
    if interface and not _INTERFACES.fullmatch(interface):
        raise UserError(f"--interface {as_literal(interface)} is not the name of a network interface, such as eth0")
    names = netns.names(_count(hosts)) if launcher == "netns" else _host_names(hosts)
    if hosts and not names:
        raise UserError(f"--hosts {hosts!r} names no host")
    if len(names) > 1 and any(map(is_loopback, names)):
        raise UserError("with several hosts, use this machine's network name instead of localhost")
    return Job(
        argv=argv,
        nproc=nproc,
        hosts=names,
        interface=interface,
        rate=rate,
        port=port,
        local_host=socket.gethostname(),
        bin_dir=bin_folder(near=not names),
        directory=str(current_folder()),
        root=os.geteuid() == 0,
    )


def start(launcher: str, job: "Job", *, dry_run: bool) -> int:
    """Print the commands, and run them unless it is a dry run."""
    from distdl.launchers.commands import make_commands
    from distdl.launchers.run import run

    commands = make_commands(launcher, job)
    if any(command.secrets for command in commands):
        print_line(NEW_KEY)
    for command in commands:
        print_line(command.shell())
    return EXIT_DONE if dry_run else run(commands)


def report_signal(code: int) -> int:
    """Return an exit code of `start`, unless a signal has ended the launcher: it has printed nothing about it.

    Raises:
        KeyboardInterrupt, Terminated: for such a code; `run_command` prints one line.
    """
    from distdl.launchers.run import FORWARDED

    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code - 128 in FORWARDED:
        raise Terminated(code - 128)
    return code


def _host_names(hosts: str) -> tuple[str, ...]:
    from distdl.core.hosts import parse

    try:
        return parse(hosts)
    except UserError as error:
        raise UserError(f"--hosts: {error}") from None


def _count(hosts: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", hosts) or int(hosts) < 1:
        raise UserError(f"--with netns needs the number of hosts, as in --hosts 3, not {hosts!r}")
    return int(hosts)

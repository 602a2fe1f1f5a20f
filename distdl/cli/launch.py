"""The verbs `distdl launch`, `distdl hosts`, `distdl probe network` and `distdl submit`."""

import dataclasses
import os
import re
import signal
import socket
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field

from distdl.core import registry
from distdl.core.config import Count, FilePath, Positive
from distdl.core.errors import EXIT_DONE, UserError, as_literal
from distdl.core.registry import known_in
from distdl.runtime.process import Terminated

if TYPE_CHECKING:
    from distdl.launchers.job import Job
_INTERFACES = re.compile(r"[A-Za-z0-9._:@,=^-]+")
"""Names of interfaces with commas between them, also in the notations of gloo and NCCL."""


def launch(
    arguments: tyro.conf.Positional[tuple[str, ...]],
    *,
    with_: Annotated[str, known_in("launchers"), tyro.conf.arg(name="with")] = "torchrun",
    hosts: str = "",
    nproc: Positive = 1,
    interface: str = "",
    rate: str = "1gbit",
    port: Annotated[int, Field(ge=0, lt=2**16)] = 0,
    dry_run: bool = False,
) -> int:
    """Start a training with any launcher: print the command and run it; --dry-run only prints it.

    Args:
        arguments: of distdl.train, after `--`.
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
    from distdl.launchers import job as jobs

    training = recipe(arguments, prog="distdl launch ... --")
    # A user's error is reported here once, not by every rank.
    config = resolve(training, strategy=_strategy(with_) or "ddp")
    if with_ == "deepspeed" and config.strategy == "auto":  # its ranks cannot distinguish its launcher from torchrun
        training = training.updated({"strategy": "deepspeed"})
    job = _job(jobs.arguments(training), with_, hosts, nproc, interface=interface, rate=rate, port=port)
    _check_strategy(config.strategy, with_, job.size)
    return _start(with_, job, dry_run=dry_run)


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
        fits = next((name for name in registry.rows("launchers") if _strategy(name) == strategy), "torchrun")
        raise UserError(f"--with {launcher} starts strategy {only}, but strategy is {strategy}: use --with {fits}")
    if strategy == "horovod" and launcher not in ("horovodrun", "mpirun"):
        raise UserError(f"--with {launcher} does not start strategy horovod: use --with horovodrun")
    if strategy == "single" and ranks > 1:
        raise UserError(f"strategy single takes one process, but {ranks} ranks were requested: use --strategy ddp")


def _job(
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
        directory=str(Path.cwd()),
        root=os.geteuid() == 0,
    )


def _start(launcher: str, job: "Job", *, dry_run: bool) -> int:
    """Print the commands, and run them unless it is a dry run."""
    from distdl.launchers.commands import make_commands
    from distdl.launchers.run import run

    commands = make_commands(launcher, job)
    for command in commands:
        print(command.shell(), flush=True)
    return EXIT_DONE if dry_run else run(commands)


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


def hosts(
    command: tyro.conf.Positional[tuple[str, ...]],
    *,
    count: Positive = 2,
    rate: str = "1gbit",
    first: bool = False,
) -> int:
    """Run a command on each of several emulated hosts: network namespaces with rate-limited links. Needs root.

    Args:
        command: after `--`; {host} and {index} in it are the host's name (h0, h1, ...) and number, {folder} is a
            temporary folder that all hosts share.
        count: number of hosts.
        rate: rate of each host's link in each direction: 1gbit, 100mbit, ...
        first: run it on h0 only, which reaches the others by ssh, for horovodrun and mpirun.
    """
    from distdl.launchers.netns import Hosts
    from distdl.launchers.run import watch

    if not command:
        raise UserError("no command to run: give it after --, as in distdl hosts --count 3 -- hostname")
    signal.signal(signal.SIGTERM, _terminate)
    with tempfile.TemporaryDirectory(prefix="distdl-hosts-") as folder, Hosts(count, rate, ssh=first) as made:
        started = []
        for index, host in enumerate(made.hosts[:1] if first else made.hosts):
            argv = [part.replace("{host}", host.name).replace("{index}", str(index)) for part in command]
            argv = [part.replace("{folder}", folder) for part in argv]
            started.append(made.start(argv, index, start_new_session=True))
        return watch(started)


def probe_network(
    *,
    with_: Annotated[Literal["torchrun", "mpirun", "srun", "netns"], tyro.conf.arg(name="with")] = "torchrun",
    hosts: str = "",
    nproc: Count = 0,
    interface: str = "",
    rate: str = "1gbit",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: FilePath | None = None,
) -> int:
    """Measure the network between ranks: bandwidth and latency of each pair, all-reduce time by message size.

    Under torchrun, mpirun or srun each rank takes part; started alone, the command starts the ranks.

    Args:
        with_: how to start the ranks.
        hosts: host names as in node01,node02 or node[01-04,07]; for netns, their number; default: this machine.
        nproc: ranks on each host; 0: 1 on several hosts, 2 on this machine.
        interface: network interface for communication: eth0, ib0, ...
        rate: netns: rate of each host's link in each direction.
        device: memory of the messages; auto: GPUs (NCCL) if each rank has one.
        json: also write the measurements to this file.
    """
    from distdl.runtime.launch_env import placement
    from distdl.runtime.mpi_slurm import join

    join(os.environ)
    if placement() is not None:
        from distdl.profiling.network_worker import probe

        return probe(device, json)
    argv = ("probe", "network", "--device", device, *(("--json", str(json.resolve())) if json else ()))
    job = _job(argv, with_, hosts, nproc or (1 if hosts else 2), interface=interface, rate=rate, port=0)
    return _start(with_, dataclasses.replace(job, module="distdl.cli"), dry_run=False)


def submit(
    arguments: tyro.conf.Positional[tuple[str, ...]],
    *,
    profile: str = "digits",
    nodes: Positive = 1,
    gpus: Count = 0,
    nproc: Count = 0,
    time: str = "",
    array: str = "",
    sbatch: tuple[str, ...] = (),
    out: FilePath | None = None,
    dry_run: bool = False,
) -> None:
    """Train as a Slurm job that requeues itself until it is done. --dry-run only prints the batch script.

    Args:
        arguments: further arguments of distdl.train, after `--`.
        profile: profile of the training, as for distdl.train.
        nodes: number of nodes.
        gpus: GPUs on each node.
        nproc: ranks on each node; 0: one per GPU, or one on a node without GPUs.
        time: length of a slice in Slurm's notation (40, 2:00:00, 1-12); default: slurm.slice_s of the profile.
        array: indices in Slurm's notation (0-4, or 0-9%2): one run per index, which is its seed.
        sbatch: further options of sbatch: partition=gpu account=me cpus-per-task=8.
        out: run folder, on a file system that all nodes share; in an array, the folder of the run folders.
        dry_run: only print the script.
    """
    from distdl.cli.recipe import recipe
    from distdl.core.profiles import resolve
    from distdl.core.run_files import default_path
    from distdl.launchers import slurm

    _refuse_taken(arguments, array)
    odd = [option for option in sbatch if not re.fullmatch(r"[a-z][a-z-]*(=\S+)?", option)]
    if odd:
        raise UserError(f'--sbatch "{odd[0]}" is not an option of sbatch: write partition=gpu')
    if array and not re.fullmatch(r"\d+(-\d+)?(:\d+)?(,\d+(-\d+)?(:\d+)?)*(%\d+)?", array):
        raise UserError(f'--array "{array}" is not a list of indices: write 0-4, 0,2,5 or 0-9%2')
    training = recipe(("--profile", profile, *arguments), prog="distdl submit ... --")
    config = resolve(training, strategy="ddp")
    if config.strategy == "horovod":
        raise UserError("srun does not start Horovod: use --strategy ddp, or run launch/horovodrun.sh in an allocation")
    run = str(out or default_path(config.name))
    job = slurm.Submission(
        recipe=training,
        run=run,
        logs=run,
        name=re.sub(r"[^A-Za-z0-9._+-]+", "-", config.name),
        nodes=nodes,
        gpus=gpus,
        nproc=nproc or max(gpus, 1),
        time_s=slurm.parse_time(time) if time else max(int(config.slurm.slice_s), 60),
        array=array,
        options=sbatch,
        python=sys.executable,
    )
    if dry_run:
        print(slurm.script(job), end="")
        return
    print(f"submitted job {slurm.submit(job)}; its run folder: {run}")


def _refuse_taken(arguments: tuple[str, ...], array: str) -> None:
    taken = {"--out": "give it before --", "--resume": "slices always resume", "--profile": "give it before --"}
    if array:
        taken["--seed"] = "it is the index of the array"
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in taken:
            raise UserError(f"{option} cannot be given after --: {taken[option]}")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated

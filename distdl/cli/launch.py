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

from distdl.core import registry
from distdl.core.errors import EXIT_DONE, UserError
from distdl.core.registry import known_in
from distdl.runtime.process import Terminated

if TYPE_CHECKING:
    from distdl.launchers.job import Job


def launch(
    words: tyro.conf.Positional[tuple[str, ...]],
    *,
    with_: Annotated[str, known_in("launchers"), tyro.conf.arg(name="with")] = "torchrun",
    hosts: str = "",
    nproc: int = 1,
    interface: str = "",
    rate: str = "1gbit",
    port: int = 0,
    dry_run: bool = False,
) -> int:
    """Start a training by any launcher: show the command, then run it. --dry-run only shows it.

    Args:
        words: what distdl.train is told, after `--`.
        with_: the launcher; netns makes several hosts on this machine, by root.
        hosts: host names as in node01,node02 or node[01-04,07]; for netns, their number. Without it this machine alone.
        nproc: ranks on each host.
        interface: network interface that the ranks talk over, as eth0 or ib0.
        rate: netns: of each host's link, each way: 1gbit, 100mbit, ...
        port: of the rendezvous, on the first host; 0 takes another one for each launch.
        dry_run: only print the command.
    """
    from distdl.cli.recipe import recipe
    from distdl.core.profiles import resolve
    from distdl.launchers.job import arguments

    training = recipe(words, prog="distdl launch ... --")
    # An error of the user is reported here once, and not by every rank.
    config = resolve(training, strategy=_strategy(with_) or "ddp")
    if with_ == "deepspeed" and config.strategy == "auto":  # its ranks cannot tell its launcher from torchrun
        training = training.updated({"strategy": "deepspeed"})
    job = _job(arguments(training), with_, hosts, nproc, interface=interface, rate=rate, port=port)
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
    fits = next((name for name in registry.rows("launchers") if _strategy(name) == strategy), "torchrun")
    only = _strategy(launcher)
    if only and strategy not in ("auto", only):
        raise UserError(f"--with {launcher} starts strategy {only}, but strategy is {strategy}: use --with {fits}")
    if strategy == "horovod" and launcher not in ("horovodrun", "mpirun"):
        raise UserError(f"--with {launcher} does not start strategy horovod: use --with horovodrun")
    if strategy == "single" and ranks > 1:
        raise UserError(f"strategy single takes one process, but {ranks} ranks were requested: use --strategy ddp")


def _job(
    argv: tuple[str, ...], launcher: str, hosts: str, nproc: int, *, interface: str, rate: str, port: int
) -> "Job":
    from distdl.core.hosts import is_loopback, parse
    from distdl.launchers import netns
    from distdl.launchers.job import Job, bin_folder

    if nproc < 1:
        raise UserError("--nproc must be at least 1: it counts the ranks on each host")
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is not a TCP port: write 1 to 65535")
    if launcher == "netns":
        names = netns.names(_count(hosts))
        netns.parse_rate(rate)
    else:
        names = parse(hosts)
    if hosts and not names:
        raise UserError(f"--hosts {hosts!r} names no host")
    if len(names) > 1 and any(map(is_loopback, names)):
        raise UserError("of several hosts none may be localhost: give this machine's name as the others know it")
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
    """Show the commands, and run them unless they are only asked for."""
    from distdl.launchers.run import run

    commands = registry.make("launchers", launcher, job)
    for command in commands:
        print(command.shell(), flush=True)
    return EXIT_DONE if dry_run else run(commands)


def _count(hosts: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", hosts) or int(hosts) < 1:
        raise UserError(f"--with netns makes hosts: give their number, as in --hosts 3, and not {hosts!r}")
    return int(hosts)


def hosts(
    command: tyro.conf.Positional[tuple[str, ...]],
    *,
    count: int = 2,
    rate: str = "1gbit",
    first: bool = False,
) -> int:
    """Run a command on each of several hosts on this machine: network namespaces with shaped links. Needs root.

    Args:
        command: after `--`; {host} and {index} in it stand for the host's name (h0, h1, ...) and number, {folder} for a
            temporary folder that all hosts see.
        count: hosts.
        rate: of each host's link, each way: 1gbit, 100mbit, ...
        first: run it on h0 only, which then reaches the others by ssh, as horovodrun and mpirun need it.
    """
    from distdl.launchers.netns import Hosts
    from distdl.launchers.run import watch

    if not command:
        raise UserError("no command to run: give it after --, as in distdl hosts --count 3 -- hostname")
    signal.signal(signal.SIGTERM, _terminate)
    with tempfile.TemporaryDirectory(prefix="distdl-hosts-") as folder, Hosts(count, rate, ssh=first) as made:
        started = []
        for index, host in enumerate(made.hosts[:1] if first else made.hosts):
            argv = [word.replace("{host}", host.name).replace("{index}", str(index)) for word in command]
            argv = [word.replace("{folder}", folder) for word in argv]
            started.append(made.start(argv, index, start_new_session=True))
        return watch(started)


def probe_network(
    *,
    with_: Annotated[Literal["torchrun", "mpirun", "srun", "netns"], tyro.conf.arg(name="with")] = "torchrun",
    hosts: str = "",
    nproc: int = 0,
    interface: str = "",
    rate: str = "1gbit",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: Path | None = None,
) -> int:
    """Measure the network between ranks: bandwidth and latency of each pair, all-reduce by message size.

    Under torchrun, mpirun or srun each rank takes part; started alone it starts the ranks itself.

    Args:
        with_: how to start the ranks.
        hosts: host names as in node01,node02 or node[01-04,07]; for netns, their number. Without it this machine alone.
        nproc: ranks on each host; 0 is 1 of several hosts, and 2 on this machine alone.
        interface: network interface that the ranks talk over, as eth0 or ib0.
        rate: netns: of each host's link, each way.
        device: whose memory the messages are in; auto takes the GPUs (NCCL) where each rank has one.
        json: write the measurements to this file too.
    """
    from distdl.runtime.launch_env import join

    join(os.environ)
    if "RANK" in os.environ:
        from distdl.profiling.network_worker import probe

        return probe(device, json)
    argv = ("probe", "network", "--device", device, *(("--json", str(json.resolve())) if json else ()))
    job = _job(argv, with_, hosts, nproc or (1 if hosts else 2), interface=interface, rate=rate, port=0)
    return _start(with_, dataclasses.replace(job, module="distdl.cli"), dry_run=False)


def submit(
    words: tyro.conf.Positional[tuple[str, ...]],
    *,
    profile: str = "digits",
    nodes: int = 1,
    gpus: int = 0,
    nproc: int = 0,
    time: str = "",
    array: str = "",
    sbatch: tuple[str, ...] = (),
    out: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Train as a Slurm job that queues itself again until it is done. --dry-run only shows the batch script.

    Args:
        words: further words for distdl.train, after `--`.
        profile: what to train, as for distdl.train.
        nodes: how many.
        gpus: on each node.
        nproc: ranks on each node; 0 is one for each GPU, and one on a node without.
        time: length of a slice, as Slurm writes it (40, 2:00:00, 1-12); the profile's slurm.slice_s without it.
        array: indices as Slurm writes them (0-4, or 0-9%2): one run for each, which is its seed.
        sbatch: further options of sbatch, as partition=gpu account=me cpus-per-task=8.
        out: the run folder, which all nodes must see; in an array the folder of the run folders.
        dry_run: only print the script.
    """
    from distdl.cli.recipe import recipe
    from distdl.core.profiles import resolve
    from distdl.core.rundir import default_path
    from distdl.launchers import slurm

    _only_words(words, array)
    if nodes < 1 or gpus < 0 or nproc < 0:
        raise UserError("--nodes must be at least 1, --gpus and --nproc at least 0")
    odd = [option for option in sbatch if not re.fullmatch(r"[a-z][a-z-]*(=\S+)?", option)]
    if odd:
        raise UserError(f'--sbatch "{odd[0]}" is not an option of sbatch: write partition=gpu')
    if array and not re.fullmatch(r"\d+(-\d+)?(:\d+)?(,\d+(-\d+)?(:\d+)?)*(%\d+)?", array):
        raise UserError(f'--array "{array}" is not a list of indices: write 0-4, 0,2,5 or 0-9%2')
    training = recipe(("--profile", profile, *words), prog="distdl submit ... --")
    config = resolve(training, strategy="ddp")
    if config.strategy == "horovod":
        raise UserError("srun starts no Horovod: ask for ddp, or run launch/horovodrun.sh inside an allocation")
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


def _only_words(words: tuple[str, ...], array: str) -> None:
    taken = {"--out": "give it before --", "--resume": "a slice always goes on", "--profile": "give it before --"}
    if array:
        taken["--seed"] = "it is the array's index"
    for word in words:
        option = word.partition("=")[0]
        if option in taken:
            raise UserError(f"{option} is not for the words after --: {taken[option]}")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated

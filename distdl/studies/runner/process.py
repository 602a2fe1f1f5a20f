"""Processes of a trial: start on a share of the machine, stop, and kill leftover processes."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from distdl.core import hosts
from distdl.core.errors import UserError
from distdl.core.opening import open_to_append
from distdl.core.paths import current_folder
from distdl.launchers import netns
from distdl.launchers.commands import agent, horovodrun
from distdl.launchers.job import Job, arguments, bin_folder
from distdl.runtime.mpi_slurm import outside_job
from distdl.studies.base import TRAIN, Trial
from distdl.studies.runner.needs import configuration
from distdl.studies.runner.trial_lock import LOG

MARK = "DISTDL_TRIAL"
"""Environment variable of every process of a trial, with the trial's folder: identifies processes of killed parents."""


@dataclass(frozen=True, kw_only=True)
class HostShare:
    """Cores and GPUs of this host that a trial may use."""

    cores: tuple[int, ...] = ()
    """Cores of the host, in order."""
    gpus: tuple[str, ...] = ()
    """Identifiers as in CUDA_VISIBLE_DEVICES. Empty: all GPUs that are visible to the runner."""


def command(trial: Trial, folder: Path) -> list[str]:
    """Return the command line of a training, with the launcher that its strategy and its hosts need."""
    argv = arguments(trial.recipe.updated({"out": folder, "resume": "auto"}))
    horovod = _strategy(trial) == "horovod"
    job = Job(argv=argv, nproc=trial.ranks, bin_dir=bin_folder(near=False), directory=str(current_folder()))
    if trial.hosts:
        return _over_hosts(trial, job, horovod=horovod)
    if horovod:
        return list(horovodrun(job)[0].argv)
    return list(agent(job).argv if trial.ranks > 1 else job.python)


def _over_hosts(trial: Trial, job: Job, *, horovod: bool) -> list[str]:
    emulated = trial.hosts.isdecimal()
    names = netns.names(int(trial.hosts)) if emulated else hosts.parse(trial.hosts)
    if trial.ranks % len(names):
        raise UserError(f"trial {trial.name}: {trial.ranks} ranks cannot be shared equally by {len(names)} hosts")
    each = trial.ranks // len(names)
    distdl = [sys.executable, "-P", "-m", "distdl.cli"]
    if emulated and horovod:
        inner = horovodrun(replace(job, nproc=each, hosts=names))[0].argv
        return [*distdl, "hosts", "--count", str(len(names)), "--first", "--", *inner]
    launcher = "horovodrun" if horovod else "netns" if emulated else "direct"
    placement = ["--with", launcher, "--hosts", trial.hosts, "--nproc", str(each)]
    return [*distdl, "launch", *placement, "--", *job.argv]


def _strategy(trial: Trial) -> str:
    """The strategy of a training's configuration."""
    try:
        return configuration(trial).strategy
    except UserError:
        return "auto"  # the training reports what is wrong with its configuration


def start(trial: Trial, folder: Path, share: HostShare, lock: int) -> subprocess.Popen[bytes]:
    """Start a trial in its own session, so that only the runner receives Ctrl-C and forwards it.

    Args:
        lock: file descriptor of the lock on the trial's folder; the process inherits it.
    """
    target = [str(folder)] if trial.call != TRAIN else ["--", *command(trial, folder)]
    cores = ",".join(map(str, cores_of(trial, share)))
    argv = [sys.executable, "-P", "-m", "distdl.studies.runner.trial_process", str(os.getpid()), cores, *target]
    with open_to_append(folder / LOG) as log:
        return subprocess.Popen(
            argv,
            env=trial_environment(os.environ, folder, share),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )


def cores_of(trial: Trial, share: HostShare) -> tuple[int, ...]:
    """Cores of `share` that a trial may use."""
    return share.cores[: trial.cores or None]


def trial_environment(environ: Mapping[str, str], folder: Path, share: HostShare) -> dict[str, str]:
    """Return the environment of a trial: without variables that would make it a rank of the job of the runner."""
    inherited = outside_job(environ)
    if share.gpus:
        inherited["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
    return {**inherited, MARK: str(folder), "PYTHONUNBUFFERED": "1"}


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to a process if it is running."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)


def clear(folder: Path) -> None:
    """Kill leftover processes of this trial on this host, such as ranks of a killed launcher. Its lock must be held."""
    remaining = [process for process in psutil.process_iter() if _marked(process, folder)]
    for process in remaining:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            process.kill()
    psutil.wait_procs(remaining, timeout=10)


def _marked(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):
        return False

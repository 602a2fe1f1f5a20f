"""Start a trial's process on its share of the machine, stop it, and kill processes that it left."""

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
from distdl.launchers import horovodrun, netns, torchrun
from distdl.launchers.job import Job, arguments, bin_folder
from distdl.studies.base import TRAIN, Trial
from distdl.studies.runner.needs import configuration
from distdl.studies.runner.trial_lock import LOG

MARK = "DISTDL_TRIAL"
"""Variable of every process of a trial, with the trial's folder: it finds processes whose parents were killed."""
_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHERS = ("TORCHELASTIC_", "HOROVOD_", "OMPI_", "PMIX_", "SLURM_STEP_", "SLURM_PROCID", "SLURM_LOCALID")


@dataclass(frozen=True, kw_only=True)
class Share:
    """Cores and GPUs of this host that a trial may use."""

    cores: tuple[int, ...] = ()
    """Cores of the host, in order."""
    gpus: tuple[str, ...] = ()
    """As CUDA_VISIBLE_DEVICES names them. Empty: all that the runner sees."""


def command(trial: Trial, folder: Path) -> list[str]:
    """The command line of a training, with the launcher that its strategy and its hosts need."""
    argv = arguments(trial.recipe.updated({"out": folder, "resume": "auto"}))
    horovod = _strategy(trial) == "horovod"
    job = Job(argv=argv, nproc=trial.ranks, bin_dir=bin_folder(near=False), directory=str(Path.cwd()))
    if trial.hosts:
        return _over_hosts(trial, job, horovod=horovod)
    if horovod:
        return list(horovodrun.commands(job)[0].argv)
    return list(torchrun.command(job).argv if trial.ranks > 1 else job.python)


def _over_hosts(trial: Trial, job: Job, *, horovod: bool) -> list[str]:
    made = trial.hosts.isdecimal()
    names = netns.names(int(trial.hosts)) if made else hosts.parse(trial.hosts)
    if trial.ranks % len(names):
        raise UserError(f"trial {trial.name}: {trial.ranks} ranks cannot be shared equally by {len(names)} hosts")
    each = trial.ranks // len(names)
    distdl = [sys.executable, "-m", "distdl.cli"]
    if made and horovod:
        inner = horovodrun.commands(replace(job, nproc=each, hosts=names))[0].argv
        return [*distdl, "hosts", "--count", str(len(names)), "--first", "--", *inner]
    launcher = "horovodrun" if horovod else "netns" if made else "torchrun"
    place = ["--with", launcher, "--hosts", trial.hosts, "--nproc", str(each)]
    return [*distdl, "launch", *place, "--", *job.argv]


def _strategy(trial: Trial) -> str:
    """The strategy of a training's configuration."""
    try:
        return configuration(trial).strategy
    except UserError:
        return "auto"  # the training reports what is wrong with its configuration


def start(trial: Trial, folder: Path, share: Share, lock: int) -> subprocess.Popen[bytes]:
    """Start a trial in its own session: Ctrl-C reaches it once, through the runner.

    Args:
        lock: descriptor that holds the trial's folder; the process keeps it open.
    """
    what = [str(folder)] if trial.call != TRAIN else ["--", *command(trial, folder)]
    cores = ",".join(map(str, cores_of(trial, share)))
    argv = [sys.executable, "-m", "distdl.studies.runner.trial_process", str(os.getpid()), cores, *what]
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            argv,
            env=environment(os.environ, folder, share),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )


def cores_of(trial: Trial, share: Share) -> tuple[int, ...]:
    """Cores of its share that a trial may use."""
    return share.cores[: trial.cores or None]


def environment(environ: Mapping[str, str], folder: Path, share: Share) -> dict[str, str]:
    """The runner's variables, except those that would make the trial a rank of the job that started the runner."""
    inherited = {
        name: value for name, value in environ.items() if name not in _PLACE and not name.startswith(_LAUNCHERS)
    }
    if share.gpus:
        inherited["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
    # Slurm's warning reaches torchrun itself too and would end it before its ranks have saved.
    inherited["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"
    return {**inherited, MARK: str(folder), "PYTHONUNBUFFERED": "1"}


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop cleanly, if it is running."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)


def clear(folder: Path) -> None:
    """Kill whatever still works on this trial on this host: ranks whose launcher was killed. Its lock must be held."""
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

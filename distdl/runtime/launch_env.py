"""Variables that a launcher (torchrun, Horovod, Slurm) sets for the processes of a job.

Only this module and `runtime.mpi_slurm` read them, and `runtime.interrupts`, which may import neither; others use the
values that they return. Functions take the variables as `environ`, by default those of this process.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distdl.core.errors import UserError
from distdl.runtime.channel import KEY_BYTES, derive

KEY, STORE, PARENT = "DISTDL_KEY", "DISTDL_STORE", "DISTDL_PARENT"
"""Key of the job, as hexadecimal digits; address and port of the store that its launcher serves; process id of the
launcher."""
RANKS = ("WORLD_SIZE", "HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Number of ranks, by launcher; of these the first that is set counts."""


JOB_VARIABLES = (
    *("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES"),
    *("SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"),
)
"""Variables that environment.json keeps. Others may hold tokens, accounts or names of users (SLURM_JOB_ACCOUNT)."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Number of a process among all ranks of the job, and among those of its host."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def placement(environ: Mapping[str, str] = os.environ) -> Placement | None:
    """Read torchrun's variables, which `join` sets for other launchers; None if they are not set."""
    if "RANK" not in environ:
        return None
    rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    local_rank, local_size = int(environ.get("LOCAL_RANK", rank)), int(environ.get("LOCAL_WORLD_SIZE", size))
    return Placement(rank=rank, size=size, local_rank=local_rank, local_size=local_size)


def launched(strategy: str, environ: Mapping[str, str] = os.environ) -> Placement:
    """Read the placement, which a strategy with several ranks needs.

    Raises:
        UserError: if no launcher has set the variables.
    """
    launched_placement = placement(environ)
    if launched_placement is None:
        start = f"distdl launch --nproc N -- --strategy {strategy} ..."
        raise UserError(f"strategy {strategy} needs a launcher: {start}")
    return launched_placement


def choose_strategy(environ: Mapping[str, str] = os.environ) -> str:
    """Name of the strategy that `strategy = "auto"` selects: that of the launcher that started this process."""
    if "HOROVOD_RANK" in environ:
        return "horovod"
    if int(environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1 and "RANK" not in environ:
        return "horovod"  # horovodrun --mpi, or mpirun without an address for torch's rendezvous
    if int(environ.get("WORLD_SIZE", "1")) > 1 or "TORCHELASTIC_RUN_ID" in environ:
        return "ddp"
    return "single"


def launched_ranks(environ: Mapping[str, str] = os.environ) -> int:
    """Number of processes that the launcher started; 1 without a launcher."""
    return int(next((environ[name] for name in RANKS if name in environ), "1"))


def has_launcher(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun, Horovod or Open MPI started this process."""
    return any(name in environ for name in RANKS)


def is_part_of_job(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several ranks, or a task of Slurm: its own command starts no job."""
    return launched_ranks(environ) > 1 or "SLURM_PROCID" in environ


def is_elastic_horovod(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether horovodrun may add and remove ranks while they train."""
    return environ.get("HOROVOD_ELASTIC") == "1"


@dataclass(frozen=True, kw_only=True)
class TorchrunJob:
    """The job of torchrun that a rank belongs to."""

    run_id: str
    restarts: int
    """Number of restarts of the ranks so far."""
    max_restarts: int


def torchrun_job(environ: Mapping[str, str] = os.environ) -> TorchrunJob:
    """Read the job of torchrun; without torchrun, one with an empty id that is never restarted."""
    return TorchrunJob(
        run_id=environ.get("TORCHELASTIC_RUN_ID", ""),
        restarts=int(environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        max_restarts=int(environ.get("TORCHELASTIC_MAX_RESTARTS", "0")),
    )


@dataclass(frozen=True, kw_only=True)
class JobStore:
    """The rendezvous of a job's ranks: an authenticated store (`runtime.store_server`)."""

    key: bytes
    host: str
    ports: tuple[int, ...]
    """The store uses the first one that is free."""
    is_served: bool
    """Whether the launcher serves it; else rank 0 does."""


def job_store(environ: Mapping[str, str] = os.environ) -> JobStore | None:
    """Read the rendezvous of the ranks; None if the launcher has set no key: then it is torch's store.

    Raises:
        UserError: if the variables are wrong.
    """
    key = job_key(environ)
    if key is None:
        return None
    if STORE in environ:
        host, _, port = environ[STORE].rpartition(":")
        return JobStore(key=key, host=host, ports=(int(port),), is_served=True)
    # The steps of one Slurm job have the same key.
    parts = [environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "WORLD_SIZE")]
    key = derive(key, *parts)
    port = environ.get("MASTER_PORT")
    ports = (int(port),) if port else tuple(store_ports(key))
    return JobStore(key=key, host=environ["MASTER_ADDR"], ports=ports, is_served=False)


def job_key(environ: Mapping[str, str] = os.environ) -> bytes | None:
    """Read the key of the job; None if there is none.

    Raises:
        UserError: if it is not a key.
    """
    return parse_key(environ[KEY], KEY) if KEY in environ else None


def parse_key(text: str, where: str) -> bytes:
    """Return a key from its hexadecimal digits.

    Args:
        where: variable or file of the text, for the message, which does not show the text.
    Raises:
        UserError: if it is not a key.
    """
    if not re.fullmatch(f"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        raise UserError(f"{where} has no key: it must be {2 * KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(text)


def store_ports(key: bytes) -> list[int]:
    """Return the ports to try for a job's store, below the range of ephemeral ports.

    They follow from the key, so that all ranks know them and no other user does.
    """
    return [20000 + int.from_bytes(derive(key, f"port {index}")[:4], "big") % 12000 for index in range(16)]


def master_port(environ: Mapping[str, str] = os.environ) -> int:
    """Port of torch's store; 0 if the launcher has set none."""
    return int(environ.get("MASTER_PORT", "0"))


def interface(environ: Mapping[str, str] = os.environ) -> str:
    """Network interface that gloo uses; empty: gloo selects one."""
    return environ.get("GLOO_SOCKET_IFNAME", "").partition(",")[0]


def launcher_process(environ: Mapping[str, str] = os.environ) -> int | None:
    """Process id of the launcher, with which this process must end; None if the launcher does not ask for it."""
    return int(environ[PARENT]) if PARENT in environ else None


def error_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file from which torchrun reads the error of a failed rank; None under other launchers."""
    return Path(environ["TORCHELASTIC_ERROR_FILE"]) if "TORCHELASTIC_ERROR_FILE" in environ else None


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """The job of Slurm that a process belongs to; an empty id outside of Slurm."""

    id: str
    restarts: int
    """Number of times that the job was requeued."""


def slurm_job(environ: Mapping[str, str] = os.environ) -> SlurmJob:
    """Read the job of Slurm."""
    return SlurmJob(id=environ.get("SLURM_JOB_ID", ""), restarts=int(environ.get("SLURM_RESTART_COUNT", "0")))


def job_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that identify the job, for environment.json; `torchrun_job` reads them too."""
    return {name: environ[name] for name in JOB_VARIABLES if name in environ}

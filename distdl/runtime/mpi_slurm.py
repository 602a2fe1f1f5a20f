"""Translation of the variables of MPI launchers and Slurm to torchrun's, which `launch_env` reads."""

import errno
import re
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from distdl.core.errors import UserError
from distdl.core.hosts import MAX_HOSTS, expand
from distdl.runtime.launch_env import KEY, PARENT, STORE

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class MpiLauncher:
    """Variables by which an MPI launcher numbers its ranks; of several variables, the first that is set is used."""

    name: str
    rank: tuple[str, ...]
    size: tuple[str, ...]
    local_rank: tuple[str, ...]
    local_size: tuple[str, ...]

    @classmethod
    def prefixed(cls, name: str, prefix: str) -> "MpiLauncher":
        """Make a launcher whose variables are PREFIX_RANK, PREFIX_SIZE, PREFIX_LOCAL_RANK and PREFIX_LOCAL_SIZE."""
        fields = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
        return cls(name=name, **{field.lower(): (f"{prefix}_{field}",) for field in fields})


OPEN_MPI = MpiLauncher.prefixed("Open MPI", "OMPI_COMM_WORLD")
MPI_LAUNCHERS = (
    OPEN_MPI,
    MpiLauncher.prefixed("MVAPICH2", "MV2_COMM_WORLD"),
    MpiLauncher.prefixed("MVAPICH", "MVP_COMM_WORLD"),
    MpiLauncher.prefixed("jsrun", "JSM_NAMESPACE"),
    MpiLauncher(
        name="PMI (MPICH, Intel MPI, PALS)",
        rank=("PMI_RANK", "PALS_RANKID"),
        size=("PMI_SIZE",),
        local_rank=("MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID"),
        local_size=("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE"),
    ),
    MpiLauncher(
        name="Flux",
        rank=("FLUX_TASK_RANK",),
        size=("FLUX_JOB_SIZE",),
        local_rank=("FLUX_TASK_LOCAL_ID",),
        local_size=(),
    ),
    MpiLauncher(name="PMIx", rank=("PMIX_RANK",), size=(), local_rank=(), local_size=()),
)
"""In order of specificity: Open MPI and jsrun also set PMIX_RANK, and MVAPICH sets PMI_RANK."""


def join(environ: MutableMapping[str, str]) -> None:
    """Set torchrun's variables in `environ` from those of another launcher, for a rank of several.

    Raises:
        UserError: if the variables are incomplete, or another program listens on rank 0's port.
    """
    variables = from_launcher(environ)
    environ.update(variables)
    for name in (*TORCHRUN, "MASTER_PORT"):
        _number(environ, (name,))
    if variables.get("RANK") == "0" and KEY not in environ:
        _check_port(int(variables["MASTER_PORT"]))


def rank_of(environ: Mapping[str, str]) -> int:
    """Return this process's rank from the variables of any launcher, even if incomplete; 0 without a launcher."""
    try:
        environ = {**environ, **from_launcher(environ)}
        names = (("RANK", "HOROVOD_RANK"), *(mpi.rank for mpi in MPI_LAUNCHERS))
        return next(filter(None, (_number(environ, each) for each in names)), 0)
    except UserError:
        return 0


def outside_job(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without the variables that make a process a rank of a job. Those of Slurm's allocation remain."""
    names = {*TORCHRUN, *RENDEZVOUS, KEY, STORE, PARENT, "SLURM_PROCID", "SLURM_LOCALID"}
    for mpi in MPI_LAUNCHERS:
        names |= {*mpi.rank, *mpi.size, *mpi.local_rank, *mpi.local_size}
    prefixes = ("TORCHELASTIC_", "HOROVOD_", "OMPI_", "PMIX_", "SLURM_STEP_")
    return {name: value for name, value in environ.items() if name not in names and not name.startswith(prefixes)}


def from_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """Return torchrun's variables for a rank that mpirun or srun started; empty if they are set or there is one rank.

    A Slurm batch script or a shell under srun is not a rank: only a task of a step with several tasks is one.

    Raises:
        UserError: if a launcher started several ranks and its variables are incomplete.
    """
    if "RANK" in environ or "HOROVOD_RANK" in environ:
        return {}
    slurm = _slurm(environ)
    for mpi in MPI_LAUNCHERS:
        rank, size = _number(environ, mpi.rank), _number(environ, mpi.size)
        if size == 1:
            break
        if rank is None:
            continue
        # srun sets PMI's or PMIx's variables too. If they differ, Slurm's count mpirun's daemons.
        tasks = _number(environ, ("SLURM_STEP_NUM_TASKS",))
        if slurm is None or environ["SLURM_PROCID"] != str(rank) or size not in (None, tasks):
            return _from_mpi(mpi, environ)
    return slurm or {}


def _from_mpi(mpi: MpiLauncher, environ: Mapping[str, str]) -> dict[str, str]:
    if mpi is OPEN_MPI and "MASTER_ADDR" not in environ:
        return {}  # Horovod over MPI does not need an address
    sources = dict(zip(TORCHRUN, (mpi.rank, mpi.size, mpi.local_rank, mpi.local_size), strict=True))
    # With a key the ranks derive the port from it.
    sources |= {name: (name,) for name in RENDEZVOUS if name in environ or KEY not in environ}
    variables = {name: environ[source] for name, names in sources.items() if (source := _first(environ, names))}
    missing = [name for name in sources if name not in variables]
    if missing:
        raise UserError(
            f"this is one of several ranks of {mpi.name}, but {', '.join(missing)} cannot be derived: set RANK, "
            "WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or use distdl launch"
        )
    return variables


def _slurm(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return the variables of a task in a step of several tasks; {} in a step of one task, None outside of steps."""
    tasks = _number(environ, ("SLURM_STEP_NUM_TASKS",))
    if tasks is None or "SLURM_PROCID" not in environ:
        return None
    if tasks == 1:
        return {}
    try:
        local_size = tasks_per_node(environ["SLURM_STEP_TASKS_PER_NODE"])[int(environ["SLURM_NODEID"])]
        variables = {
            "RANK": environ["SLURM_PROCID"],
            "WORLD_SIZE": str(tasks),
            "LOCAL_RANK": environ["SLURM_LOCALID"],
            "LOCAL_WORLD_SIZE": str(local_size),
            "MASTER_ADDR": expand(environ["SLURM_STEP_NODELIST"])[0],
        }
        if KEY not in environ:
            variables["MASTER_PORT"] = str(_port(environ))
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"this is a task of a Slurm step of {tasks}, but its SLURM_ variables are incomplete: {error}"
        ) from None
    return variables | {name: environ[name] for name in RENDEZVOUS if name in environ}


def _port(environ: Mapping[str, str]) -> int:
    """Return a port that two jobs, or two steps of one job, on the same host rarely share."""
    return 20000 + (int(environ["SLURM_JOB_ID"]) * 16 + int(environ["SLURM_STEP_ID"])) % 12000


def _check_port(port: int) -> None:
    try:
        socket.create_server(("", port)).close()
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno != errno.EADDRINUSE:
            return  # torch's store may succeed although this attempt fails
        raise UserError(
            f"port {port} of the ranks' rendezvous on this host is in use: set MASTER_PORT to a free one on all ranks"
        ) from None


def _number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    """Return the value of the first of these variables that is set."""
    name = _first(environ, names)
    if name is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", environ[name]):
        raise UserError(f'{name}="{environ[name]}" is not a number, but a launcher must set one')
    return int(environ[name])


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in environ), None)


def tasks_per_node(text: str) -> list[int]:
    """Return the tasks of each node from Slurm's shorthand: "4(x2),3" is [4, 4, 3].

    Raises:
        ValueError: for any other text, or more than `MAX_HOSTS` nodes.
    """
    items = text.split(",")
    parts = [part for item in items if (part := re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", item))]
    if len(parts) < len(items) or sum(int(part[2] or 1) for part in parts) > MAX_HOSTS:
        raise ValueError(f"{text[:80]!r} are not tasks per node")
    return [int(part[1]) for part in parts for _ in range(int(part[2] or 1))]

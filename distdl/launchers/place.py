"""A rank's place in the variables of Open MPI and Slurm, told as torchrun tells it: RANK, WORLD_SIZE, ..."""

import re
from collections.abc import Mapping


def from_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """torchrun's variables for a rank that mpirun or srun started; nothing where they are set, or there are no others.

    A batch script of Slurm, or a shell under srun, is no rank of several: only a task of a step of many is.
    """
    if "RANK" in environ or "HOROVOD_RANK" in environ:
        return {}
    if int(environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in environ:
        names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")
        return _place(environ, *names, environ["OMPI_COMM_WORLD_LOCAL_SIZE"])
    if int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in environ:
        local = tasks_per_node(environ["SLURM_STEP_TASKS_PER_NODE"])[int(environ["SLURM_NODEID"])]
        place = _place(environ, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", str(local))
        return {"MASTER_ADDR": first_host(environ["SLURM_STEP_NODELIST"]), "MASTER_PORT": _port(environ), **place}
    return {}


def _place(environ: Mapping[str, str], rank: str, size: str, local_rank: str, local_size: str) -> dict[str, str]:
    told = {"RANK": environ[rank], "WORLD_SIZE": environ[size], "LOCAL_RANK": environ[local_rank]}
    meeting = {name: environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in environ}
    return {**told, "LOCAL_WORLD_SIZE": local_size, **meeting}


def _port(environ: Mapping[str, str]) -> str:
    """A port that two jobs, or two steps of one, on the same host do not share by accident."""
    return str(20000 + (int(environ["SLURM_JOB_ID"]) * 16 + int(environ["SLURM_STEP_ID"])) % 12000)


def first_host(nodelist: str) -> str:
    """The first host of Slurm's shorthand: "gpu[03-07,11]-ib" is "gpu03-ib"."""
    first = re.match(r"[^,\[]*(\[[^]]*\][^,\[]*)*", nodelist)[0]
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first)


def tasks_per_node(text: str) -> list[int]:
    """Tasks of each node of Slurm's shorthand: "4(x2),3" is [4, 4, 3]."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, nodes in parts for _ in range(int(nodes or 1))]

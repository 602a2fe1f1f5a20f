"""A rank's place in the variables of other launchers."""

import pytest

from distdl.launchers.place import first_host, from_launcher, tasks_per_node

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "MASTER_ADDR": "h0",
    "MASTER_PORT": "29400",
}
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "6",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "2",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
}


def test_open_mpi() -> None:
    assert from_launcher(OPEN_MPI) == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "h0",
        "MASTER_PORT": "29400",
    }


def test_slurm() -> None:
    place = from_launcher(SLURM)
    assert place.pop("MASTER_PORT") != from_launcher({**SLURM, "SLURM_STEP_ID": "1"})["MASTER_PORT"]
    assert place == {
        "RANK": "6",
        "WORLD_SIZE": "7",
        "LOCAL_RANK": "2",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu03",
    }


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, "no launcher"),
        ({**OPEN_MPI, "RANK": "0"}, "torchrun's own variables go"),
        ({**SLURM, "HOROVOD_RANK": "0"}, "horovodrun's ranks inside an allocation are Horovod's"),
        ({name: value for name, value in OPEN_MPI.items() if name != "MASTER_ADDR"}, "nowhere to meet: Horovod's MPI"),
        ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "a batch script is not a rank"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, "nor is a shell under srun"),
    ],
)
def test_what_is_no_rank_of_several_is_left_alone(environ: dict[str, str], why: str) -> None:
    assert from_launcher(environ) == {}, why


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("vm", "vm"),
        ("a,b", "a"),
        ("gpu[03-07,11]", "gpu03"),
        ("gpu[11,13]-ib,login", "gpu11-ib"),
        ("r[1-2]n[05-08]", "r1n05"),
        ("node-1", "node-1"),
    ],
)
def test_the_first_host_of_a_nodelist(nodelist: str, host: str) -> None:
    assert first_host(nodelist) == host


def test_tasks_of_each_node() -> None:
    assert tasks_per_node("4(x2),3") == [4, 4, 3]
    assert tasks_per_node("2") == [2]

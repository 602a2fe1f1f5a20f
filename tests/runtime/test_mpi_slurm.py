"""Rank and world size from the variables of Open MPI, Slurm and other launchers."""

import json
import socket
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.core.hosts import expand
from distdl.runtime.mpi_slurm import MPI_LAUNCHERS, from_launcher, join, outside_job, tasks_per_node
from jobs import QUIET, Ranks, free_port
from slurm_step import STEP as SLURM

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "MASTER_ADDR": "h0",
    "MASTER_PORT": "29400",
}


def test_ranks_of_open_mpi_are_read() -> None:
    assert from_launcher(OPEN_MPI) == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "h0",
        "MASTER_PORT": "29400",
    }


@pytest.mark.parametrize(("job", "step", "port"), [("7", "0", "20112"), ("1000", "3", "24003"), ("1750", "4", "24004")])
def test_the_port_of_a_step_follows_from_its_numbers(job: str, step: str, port: str) -> None:
    """20000 + (16 job + step) mod 12000: all ranks compute the same one."""
    assert from_launcher({**SLURM, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step})["MASTER_PORT"] == port


def test_ranks_of_slurm_are_read() -> None:
    place = from_launcher(SLURM)
    assert place.pop("MASTER_PORT") != from_launcher({**SLURM, "SLURM_STEP_ID": "1"})["MASTER_PORT"]
    assert place == {
        "RANK": "6",
        "WORLD_SIZE": "7",
        "LOCAL_RANK": "2",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu03",
    }


PMI = {"PMI_RANK": "3", "PMI_SIZE": "4"}
RENDEZVOUS = {"MASTER_ADDR": "h0", "MASTER_PORT": "29400"}
COMPLETE = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", **RENDEZVOUS}


@pytest.mark.parametrize(
    "environ",
    [
        {**PMI, "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
        {**PMI, "PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "2", "PALS_RANKID": "3", "PALS_LOCAL_RANKID": "1"},
        {
            "MV2_COMM_WORLD_RANK": "3",
            "MV2_COMM_WORLD_SIZE": "4",
            "MV2_COMM_WORLD_LOCAL_RANK": "1",
            "MV2_COMM_WORLD_LOCAL_SIZE": "2",
            **PMI,
        },
        {
            "JSM_NAMESPACE_RANK": "3",
            "JSM_NAMESPACE_SIZE": "4",
            "JSM_NAMESPACE_LOCAL_RANK": "1",
            "JSM_NAMESPACE_LOCAL_SIZE": "2",
            "PMIX_RANK": "3",
        },
        {**OPEN_MPI, "PMIX_RANK": "3"},
        {**OPEN_MPI, **SLURM},  # mpirun in an allocation: the Slurm step contains mpirun's daemons
    ],
)
def test_ranks_of_other_mpis_are_read(environ: dict[str, str]) -> None:
    assert from_launcher({**environ, **RENDEZVOUS}) == COMPLETE


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        (PMI, ["PMI", "LOCAL_RANK", "MASTER_ADDR"]),
        ({**PMI, "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, ["MASTER_ADDR, MASTER_PORT cannot"]),
        ({**PMI, **RENDEZVOUS}, ["LOCAL_RANK, LOCAL_WORLD_SIZE cannot"]),
        ({"PMIX_RANK": "0", **RENDEZVOUS}, ["PMIx", "WORLD_SIZE"]),
        ({"PALS_RANKID": "0"}, ["PALS"]),
        ({"PMI_RANK": "1"}, ["WORLD_SIZE"]),
        (
            {"FLUX_TASK_RANK": "0", "FLUX_JOB_SIZE": "2", "FLUX_TASK_LOCAL_ID": "0", **RENDEZVOUS},
            ["Flux", "LOCAL_WORLD_SIZE"],
        ),
        ({"PMI_RANK": "zero", "PMI_SIZE": "2"}, ['PMI_RANK="zero"']),
        ({**SLURM, "PMIX_RANK": "2"}, ["PMIx"]),  # the Slurm step contains the daemons: PROCID is not the rank
        ({name: value for name, value in SLURM.items() if name != "SLURM_NODEID"}, ["SLURM_NODEID"]),
    ],
)
def test_ranks_without_a_rendezvous_are_refused(environ: dict[str, str], names: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        from_launcher(environ)
    assert all(name in str(refused.value) for name in names)


@pytest.mark.parametrize(
    "environ",
    [{"PMI_RANK": "0", "PMI_SIZE": "1"}, {"PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, {"FLUX_JOB_SIZE": "1"}],
)
def test_a_single_rank_needs_no_rendezvous(environ: dict[str, str]) -> None:
    assert from_launcher(environ) == {}


@pytest.mark.parametrize("of_srun", [{"PMIX_RANK": "6"}, {"PMI_RANK": "6", "PMI_SIZE": "7"}])
def test_srun_with_pmi_counts_as_slurm(of_srun: dict[str, str]) -> None:
    assert from_launcher({**SLURM, **of_srun}) == from_launcher(SLURM)


def test_an_occupied_port_is_a_one_line_error_on_rank_0() -> None:
    with socket.create_server(("", 0)) as taken:
        environ = {**COMPLETE, "MASTER_PORT": str(taken.getsockname()[1])}
        del environ["RANK"]
        mpi = {"PMI_RANK": "0", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}
        with pytest.raises(UserError, match=f"port {environ['MASTER_PORT']}.*set MASTER_PORT"):
            join({**environ, **mpi})
        join({**environ, **mpi, "PMI_RANK": "1"})
    joined = {**environ, **mpi}
    join(joined)
    assert joined["RANK"] == "0"


def test_processes_of_another_mpi_without_a_rendezvous_are_refused() -> None:
    ranks = [{"PMI_RANK": str(rank), "PMI_SIZE": "3"} for rank in range(3)]
    job = Ranks([*QUIET, "--max-steps", "2", "--out", "run"], places=ranks)
    assert job.wait() == [2, 2, 2]
    assert "distdl launch" in job.text
    assert "Traceback" not in job.text
    assert not Path("run").exists()


def test_two_ranks_of_another_mpi_train_as_one_job() -> None:
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        {"PMI_RANK": str(rank), "PMI_SIZE": "2", "MPI_LOCALRANKID": str(rank), "MPI_LOCALNRANKS": "2", **rendezvous}
        for rank in range(2)
    ]
    job = Ranks([*QUIET, "--max-steps", "2", "--out", "run"], places=ranks)
    assert job.wait() == [0, 0], job.text
    assert json.loads(Path("run/result.json").read_text(encoding="utf-8"))["world_size"] == 2


def test_strategy_single_is_refused_for_several_ranks() -> None:
    job = Ranks([*QUIET, "--strategy", "single", "--out", "run"], ranks=2)
    assert job.wait() == [2, 2]
    assert "strategy single needs one process" in job.text
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "no launcher"),
        ({**OPEN_MPI, "RANK": "0"}, "torchrun's variables have priority"),
        ({**SLURM, "HOROVOD_RANK": "0"}, "ranks of horovodrun in an allocation use Horovod"),
        ({name: value for name, value in OPEN_MPI.items() if name != "MASTER_ADDR"}, "no address: Horovod's MPI"),
        ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "a batch script is not a rank"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, "nor is a shell under srun"),
    ],
)
def test_other_environments_are_not_changed(environ: dict[str, str], reason: str) -> None:
    assert from_launcher(environ) == {}, reason


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
def test_the_first_host_of_a_nodelist_is_found(nodelist: str, host: str) -> None:
    assert expand(nodelist)[0] == host


def test_tasks_per_node_are_expanded() -> None:
    assert tasks_per_node("4(x2),3") == [4, 4, 3]
    assert tasks_per_node("2") == [2]


@pytest.mark.parametrize("text", ["", "x", "4(x2", "4(x2),", "4x2", "1(x999999999)", "٤"])
def test_an_invalid_list_of_tasks_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="SLURM_ variables"):
        from_launcher({**SLURM, "SLURM_STEP_TASKS_PER_NODE": text})


def test_outside_job_removes_the_variables_of_ranks() -> None:
    allocation = {"HOME": "/root", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "gpu[03-04]"}
    ranks = OPEN_MPI | SLURM | {"RANK": "1", "HOROVOD_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}
    ranks |= {name: "1" for mpi in MPI_LAUNCHERS for name in (*mpi.rank, *mpi.size, *mpi.local_rank, *mpi.local_size)}
    outside = outside_job(allocation | ranks)
    assert outside == allocation | {"SLURM_NODEID": "1"}
    assert from_launcher(outside) == {}

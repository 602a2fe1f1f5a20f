"""Open MPI's mpirun: starts the ranks of all hosts by ssh; they communicate over gloo or NCCL, not MPI."""

from distdl.launchers.job import Command, Job


def commands(job: Job) -> list[Command]:
    """One command, on the first host. Each rank reads its rank from Open MPI's variables (`runtime.mpi_slurm`)."""
    variables = {"MASTER_ADDR": job.rendezvous_host, "MASTER_PORT": str(job.master_port), **job.variables}
    exported = [part for name, value in variables.items() for part in ("-x", f"{name}={value}")]
    tcp = ["--mca", "oob_tcp_if_include", job.interface] if job.interface else []
    ranks = ["-np", str(job.size), "-H", job.slots, "--bind-to", "none"]  # distdl pins ranks itself
    root = ["--allow-run-as-root"] if job.root else []
    return [Command(argv=("mpirun", *ranks, *root, *tcp, *exported, *job.python))]

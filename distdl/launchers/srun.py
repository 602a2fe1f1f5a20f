"""Slurm's srun: one task per rank, in the current allocation or a new one."""

from distdl.launchers.job import Command, Job

SRUN_OPTIONS = ("--kill-on-bad-exit=0", "--wait=20", "--cpu-bind=none")
"""After one rank ends, the others have 20 s: if srun killed them at once, the job would get their exit code. Ranks are
pinned to cores by distdl, so that srun must not."""


def commands(job: Job) -> list[Command]:
    """One command. Each rank reads its rank from Slurm's variables (`runtime.mpi_slurm`)."""
    nodes = (f"--nodes={len(job.hosts)}", f"--nodelist={','.join(job.hosts)}") if job.hosts else ("--nodes=1",)
    tasks = (f"--ntasks={job.size}", f"--ntasks-per-node={job.nproc}")
    return [Command(argv=("srun", *nodes, *tasks, *SRUN_OPTIONS, *job.python), env=job.variables)]

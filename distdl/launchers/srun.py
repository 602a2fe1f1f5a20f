"""Slurm's srun: one task a rank, inside an allocation or by making one."""

from distdl.launchers.job import Command, Job

LEAVE = ("--kill-on-bad-exit=0", "--wait=20", "--cpu-bind=none")
"""A rank that ends leaves the others 20 s: killed at once, they would give their own end as the job's exit code. distdl
pins its own ranks to cores: srun must not do so a second time."""


def commands(job: Job) -> list[Command]:
    """One command. Each rank finds its place in Slurm's variables (`distdl.runtime.launch_env`)."""
    nodes = (f"--nodes={len(job.hosts)}", f"--nodelist={','.join(job.hosts)}") if job.hosts else ("--nodes=1",)
    tasks = (f"--ntasks={job.size}", f"--ntasks-per-node={job.nproc}")
    return [Command(argv=("srun", *nodes, *tasks, *LEAVE, *job.python), env=job.variables)]

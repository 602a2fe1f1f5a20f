"""torchrun: one agent on each host, which starts that host's ranks and watches them."""

from distdl.launchers.job import Command, Job, everywhere


def command(job: Job, *, file: str = "") -> Command:
    """The command for each host; the same on all of them, so that it can be started anywhere in any order.

    Args:
        file: on hosts that share a local file system, a new file to rendezvous over in place of a port. A port is
            served by one host's torchrun (2.15), and the others report errors if that one is the first to exit.
    """
    meet: tuple[str, ...] = ("--standalone",)
    if len(job.hosts) > 1:
        address = f"[{job.meeting}]" if ":" in job.meeting else job.meeting
        endpoint = ("--rdzv_conf=store_type=file", f"--rdzv_endpoint={file}")
        if not file:
            endpoint = (f"--rdzv_endpoint={address}:{job.master_port}",)
        meet = (f"--nnodes={len(job.hosts)}", "--rdzv_backend=c10d", *endpoint, f"--rdzv_id=distdl-{job.run_id}")
    agent = (job.program("torchrun"), *meet, f"--nproc_per_node={job.nproc}")
    return Command(argv=(*agent, "-m", job.module, *job.argv), env=job.variables)


def commands(job: Job) -> list[Command]:
    """One command a host: torchrun itself starts nothing on others, so ssh does."""
    return everywhere(job, [command(job)] * max(len(job.hosts), 1))

"""torchrun: one agent per host, which starts and watches the ranks of its host."""

from distdl.launchers.job import Command, Job, everywhere


def command(job: Job, *, file: str = "") -> Command:
    """The command for each host: the same on all hosts, in any order.

    Args:
        file: a new file for the rendezvous, on hosts that share a local file system. A port is served by the torchrun
            of one host (2.15), and the others report errors if that one exits first.
    """
    rendezvous: tuple[str, ...] = ("--standalone",)
    if len(job.hosts) > 1:
        address = f"[{job.rendezvous_host}]" if ":" in job.rendezvous_host else job.rendezvous_host
        endpoint = ("--rdzv_conf=store_type=file", f"--rdzv_endpoint={file}")
        if not file:
            endpoint = (f"--rdzv_endpoint={address}:{job.master_port}",)
        rendezvous = (f"--nnodes={len(job.hosts)}", "--rdzv_backend=c10d", *endpoint, f"--rdzv_id=distdl-{job.run_id}")
    agent = (job.program("torchrun"), *rendezvous, f"--nproc_per_node={job.nproc}")
    return Command(argv=(*agent, "-m", job.module, *job.argv), env=job.variables)


def commands(job: Job) -> list[Command]:
    """One command per host, by ssh: torchrun starts nothing on other hosts."""
    return everywhere(job, [command(job)] * max(len(job.hosts), 1))

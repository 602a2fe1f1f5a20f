"""DeepSpeed's launcher, for strategy deepspeed. torchrun can start that strategy too."""

from distdl.launchers.job import Command, Job, everywhere


def commands(job: Job) -> list[Command]:
    """One command per host.

    The host file is always written: without it DeepSpeed counts GPUs, and a host without GPUs would have no slots. Each
    host starts its own ranks (--no_ssh), so that pdsh is not needed.
    """
    file = f"/tmp/distdl-{job.run_id}.hosts"  # unique to this launch
    hosts = "".join(f"{host} slots={job.nproc}\n" for host in job.hosts or ("localhost",))
    rendezvous = (
        "--hostfile",
        file,
        "--no_ssh",
        f"--master_addr={job.rendezvous_host}",
        f"--master_port={job.master_port}",
    )
    program = ("--no_local_rank", "--module", job.module, *job.argv)
    lines = [
        (job.program("deepspeed"), *rendezvous, f"--node_rank={rank}", *program)
        for rank in range(max(len(job.hosts), 1))
    ]
    return everywhere(job, [Command(argv=line, env=job.variables, files={file: hosts}) for line in lines])

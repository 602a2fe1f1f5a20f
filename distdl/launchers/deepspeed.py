"""DeepSpeed's launcher, for the strategy deepspeed. Under torchrun that strategy works as well."""

from distdl.launchers.job import Command, Job, everywhere


def commands(job: Job) -> list[Command]:
    """One command a host.

    The hosts are always written down, since DeepSpeed otherwise counts GPUs and takes a host without any for empty; and
    each host starts its own ranks (--no_ssh), which spares pdsh on every one of them.
    """
    file = f"/tmp/distdl-{job.run_id}.hosts"  # on each host, and no other launch's
    hosts = "".join(f"{host} slots={job.nproc}\n" for host in job.hosts or ("localhost",))
    meet = ("--hostfile", file, "--no_ssh", f"--master_addr={job.meeting}", f"--master_port={job.master_port}")
    program = ("--no_local_rank", "--module", job.module, *job.argv)
    lines = [
        (job.program("deepspeed"), *meet, f"--node_rank={rank}", *program) for rank in range(max(len(job.hosts), 1))
    ]
    return everywhere(job, [Command(argv=line, env=job.variables, files={file: hosts}) for line in lines])

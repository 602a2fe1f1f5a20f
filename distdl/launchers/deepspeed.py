"""DeepSpeed's launcher, for the strategy deepspeed. Under torchrun that strategy works as well."""

from distdl.launchers.job import Command, Job, everywhere

HOSTFILE = "deepspeed-hosts"


def commands(job: Job) -> list[Command]:
    """One command a host.

    The hosts are always written down, since DeepSpeed otherwise counts GPUs and takes a host without any for empty; and
    each host starts its own ranks (--no_ssh), which spares pdsh on every one of them.
    """
    words = job.words if any(word.split("=")[0] == "--strategy" for word in job.words) else _with_strategy(job.words)
    hostfile = "".join(f"{host} slots={job.nproc}\n" for host in job.hosts or ("localhost",))
    meet = ("--hostfile", HOSTFILE, "--no_ssh", f"--master_addr={job.meeting}", f"--master_port={job.port}")
    program = ("--no_local_rank", "--module", job.module, *words)
    lines = [
        (job.program("deepspeed"), *meet, f"--node_rank={rank}", *program) for rank in range(max(len(job.hosts), 1))
    ]
    return everywhere(job, [Command(argv=line, env=job.variables, files={HOSTFILE: hostfile}) for line in lines])


def _with_strategy(words: tuple[str, ...]) -> tuple[str, ...]:
    return (*words, "--strategy", "deepspeed")

"""The launchers: each is a function from a job to the commands that start its ranks."""

import secrets
from dataclasses import replace
from typing import Any

from distdl.core import factories
from distdl.core.contracts import described
from distdl.launchers.job import Command, Job, everywhere

AGENT = "distdl.launchers.agent"
SRUN_OPTIONS = ("--kill-on-bad-exit=0", "--wait=20", "--cpu-bind=none")
"""After one rank ends, the others have 20 s: if srun killed them at once, the job would get their exit code. Ranks are
pinned to cores by distdl, so that srun must not."""


def make_commands(launcher: str, job: Job) -> list[Command]:
    """Return the commands with which a launcher starts a job.

    Raises:
        UserError: the launcher cannot be used, or returns something else.
    """
    factory = factories.get("launchers", launcher)
    made: Any = factory.make(job)
    if not isinstance(made, list | tuple) or not made:
        made = [made]
    for part in made:
        if not isinstance(part, Command) or not part.argv:
            raise factory.fault(f"returned {described(part)}; expected a list of distdl.launchers.job.Command")
    return list(made)


def direct(job: Job) -> list[Command]:
    """distdl's own launcher: one agent per host, started by ssh, which starts and watches the host's ranks."""
    return everywhere(job, [agent(job, str(number)) for number in range(max(len(job.hosts), 1))])


def agent(job: Job, number: str = "0") -> Command:
    """The agent of a host.

    Args:
        number: number of the host.
    """
    place: tuple[str, ...] = ()
    if len(job.hosts) > 1:
        place = (f"--nnodes={len(job.hosts)}", f"--node-rank={number}", f"--master-addr={job.rendezvous_host}")
    port = (f"--master-port={job.port}",) if job.port else ()
    python = (job.program("python"), "-P", "-m")
    argv = (*python, AGENT, *place, *port, f"--nproc-per-node={job.nproc}", "-m", job.module, *job.argv)
    # On one host the agent draws a key itself.
    return Command(argv=argv, env=job.variables, secrets=job.secrets if place else {})


def horovodrun(job: Job) -> list[Command]:
    """horovodrun, for strategy horovod: one command, on the first host, from which ssh must reach the others."""
    interface = ("--network-interfaces", job.interface) if job.interface else ()
    # A build with MPI would select MPI, which must first be set up for the network.
    ranks = ("--gloo", "-np", str(job.size), "-H", job.slots)
    return [Command(argv=(job.program("horovodrun"), *ranks, *interface, *job.python), env=job.variables)]


def mpirun(job: Job) -> list[Command]:
    """Open MPI's mpirun: one command, on the first host, which starts the ranks by ssh.

    Each rank reads its rank from Open MPI's variables (`runtime.mpi_slurm`). Ranks communicate by gloo or NCCL.
    """
    variables = {"MASTER_ADDR": job.rendezvous_host, **job.port_variable, **job.variables}
    exported = [part for name, value in variables.items() for part in ("-x", f"{name}={value}")]
    exported += [part for name in job.secrets for part in ("-x", name)]
    tcp = ["--mca", "oob_tcp_if_include", job.interface] if job.interface else []
    ranks = ["-np", str(job.size), "-H", job.slots, "--bind-to", "none"]  # distdl pins ranks itself
    root = ["--allow-run-as-root"] if job.root else []
    return [Command(argv=("mpirun", *ranks, *root, *tcp, *exported, *job.python), secrets=job.secrets)]


def srun(job: Job) -> list[Command]:
    """Slurm's srun: one command, with a task per rank, in the current allocation or a new one.

    Each rank reads its rank from Slurm's variables (`runtime.mpi_slurm`).
    """
    nodes = (f"--nodes={len(job.hosts)}", f"--nodelist={','.join(job.hosts)}") if job.hosts else ("--nodes=1",)
    tasks = (f"--ntasks={job.size}", f"--ntasks-per-node={job.nproc}")
    argv = ("srun", *nodes, *tasks, *SRUN_OPTIONS, *job.python)
    return [Command(argv=argv, env={**job.port_variable, **job.variables}, secrets=job.secrets)]


def deepspeed(job: Job) -> list[Command]:
    """DeepSpeed's launcher, for strategy deepspeed, which launcher direct can start too: one command per host.

    The host file is always written: without it DeepSpeed counts GPUs, and a host without GPUs would have no slots. Each
    host starts its own ranks (--no_ssh), so that pdsh is not needed.
    """
    file = f"/tmp/distdl-{secrets.token_hex(8)}.hosts"  # unique to this launch
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
    return everywhere(
        job, [Command(argv=line, env=job.variables, secrets=job.secrets, files={file: hosts}) for line in lines]
    )


def netns(job: Job) -> list[Command]:
    """Emulated hosts on this machine: one command, which creates the hosts and an agent on each of them."""
    argv = agent(replace(job, interface=""), "{index}").argv
    shape = ("--count", str(len(job.hosts)), "--rate", job.rate)
    return [Command(argv=(job.program("distdl"), "hosts", *shape, "--", *argv), secrets=job.secrets)]

"""horovodrun: starts the ranks of all hosts by ssh, for strategy horovod."""

from distdl.launchers.job import Command, Job


def commands(job: Job) -> list[Command]:
    """One command, on the first host. The hosts must reach each other by ssh without a password."""
    interface = ("--network-interfaces", job.interface) if job.interface else ()
    # A build with MPI would select MPI, which must first be set up for the network.
    ranks = ("--gloo", "-np", str(job.size), "-H", job.slots)
    return [Command(argv=(job.program("horovodrun"), *ranks, *interface, *job.python), env=job.variables)]

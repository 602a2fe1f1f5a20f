"""`distdl hosts -- COMMAND`: a command on several emulated hosts."""

import signal
from types import FrameType

import tyro

from distdl.core.config import Positive
from distdl.core.errors import UserError
from distdl.runtime.process import Terminated


def hosts(
    command: tyro.conf.Positional[tuple[str, ...]],
    *,
    count: Positive = 2,
    rate: str = "1gbit",
    first: bool = False,
) -> int:
    """Run a command on each of several emulated hosts: network namespaces with rate-limited links. Needs root.

    Args:
        command: after `--`; {host} and {index} in it are the host's name (h0, h1, ...) and number.
        count: number of hosts.
        rate: rate of each host's link in each direction: 1gbit, 100mbit, ...
        first: run it on h0 only, which reaches the others by ssh, for horovodrun and mpirun.
    """
    from distdl.launchers.netns import Hosts
    from distdl.launchers.run import failure, watch

    if not command:
        raise UserError("no command to run: give it after --, as in distdl hosts --count 3 -- hostname")
    signal.signal(signal.SIGTERM, _terminate)
    with Hosts(count, rate, ssh=first) as made:
        started = []
        for index, host in enumerate(made.hosts[:1] if first else made.hosts):
            argv = [part.replace("{host}", host.name).replace("{index}", str(index)) for part in command]
            started.append(made.start(argv, index, start_new_session=True))
        return failure(watch(started))


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated

"""`python -P -m distdl.launchers.agent`: start the ranks of one host, and end all of them when one fails.

    python -P -m distdl.launchers.agent --nproc-per-node 4 -m distdl.train --profile digits
    python -P -m distdl.launchers.agent --nnodes 2 --master-addr n1 --key-file KEY --nproc-per-node 4 -m distdl.train

The options are torchrun's. The rendezvous of the ranks is a store that only processes with the key of the job can use.
The agent of the first host serves it, on the loopback address if there is one host, else on the addresses of the name
in --master-addr.
"""

from distdl.runtime.interrupts import Importing

with Importing():
    import argparse
    import contextlib
    import os
    import secrets
    import signal
    import socket
    import subprocess
    import sys
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from dataclasses import dataclass
    from pathlib import Path
    from typing import Any, NoReturn

    from distdl.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_USER, UserError, reason
    from distdl.core.text import print_line
    from distdl.launchers.keys import read_key
    from distdl.launchers.members import Members
    from distdl.launchers.run import GRACE_S, watch
    from distdl.runtime.addresses import LOOPBACK, is_own, listening_addresses
    from distdl.runtime.channel import derive
    from distdl.runtime.launch_env import KEY, PARENT, STORE, interface, job_key, store_ports
    from distdl.runtime.process import exit_process, require_program, run_command
    from distdl.runtime.store_server import StoreServer

MODULE = "distdl.launchers.agent"


@dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """The ranks to start, and the rendezvous of the hosts."""

    program: tuple[str, ...]
    """The command of a rank."""
    nproc: int = 1
    """Ranks on this host."""
    nnodes: int = 1
    """Number of hosts."""
    node_rank: int | None = None
    """Number of this host; None: 0 on the first host, and the order of arrival on the others."""
    host: str = LOOPBACK
    """The first host, under the name by which the others reach it."""
    port: int = 0
    """Port of the store; 0: derived from the key."""
    key: bytes


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> AgentOptions:
    """Parse the command line.

    Raises:
        UserError: for a wrong option, or several hosts without a key.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", allow_abbrev=False)
    parser.error = _refuse
    parser.add_argument("--nproc-per-node", type=int, default=1, help="ranks on this host")
    parser.add_argument("--nnodes", type=int, default=1, help="number of hosts")
    parser.add_argument("--node-rank", type=int, help="number of this host; default: in the order of arrival")
    parser.add_argument("--master-addr", default="", help="name of the first host")
    parser.add_argument("--master-port", type=int, default=0, help="port on the first host; default: from the key")
    parser.add_argument("--key-file", type=Path, help="file with the key of the job, created if there is none")
    parser.add_argument("-m", "--module", action="store_true", help="the program is a module, as in python -m")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="program and its arguments")
    options = parser.parse_args(argv)
    if not options.program:
        _refuse("no program to start: give it after the options, as in -m distdl.train --profile digits")
    if options.nproc_per_node < 1 or options.nnodes < 1 or not 0 <= options.master_port < 2**16:
        _refuse("--nproc-per-node and --nnodes must be at least 1, and --master-port below 65536")
    if options.node_rank is not None and not 0 <= options.node_rank < options.nnodes:
        _refuse(f"--node-rank {options.node_rank} is not below --nnodes {options.nnodes}")
    if options.nnodes > 1 and not options.master_addr:
        _refuse("several hosts need the name of the first one: --master-addr node01")
    key = read_key(options.key_file) if options.key_file else job_key(environ)
    if key is None:
        if options.nnodes > 1:
            _refuse("several hosts need a common key: --key-file FILE, which is created if there is none")
        key = secrets.token_bytes(32)
    python = (sys.executable, "-P", "-m") if options.module else ()
    return AgentOptions(
        program=(*python, *options.program),
        nproc=options.nproc_per_node,
        nnodes=options.nnodes,
        node_rank=0 if options.nnodes == 1 else options.node_rank,
        host=options.master_addr if options.nnodes > 1 else LOOPBACK,
        port=options.master_port,
        # Hosts with another command do not find each other.
        key=derive(key, str(options.nnodes), str(options.nproc_per_node), *options.program),
    )


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message} (python -m {MODULE} --help shows all)")


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Start the ranks of this host and wait for them. Returns the exit code."""
    options = parse(argv, environ)
    require_program(options.program[0])
    with contextlib.ExitStack() as stack:
        host, ports = options.host, [options.port] if options.port else store_ports(options.key)
        number = options.node_rank
        if number == 0 or (number is None and is_own(host)):
            addresses = listening_addresses(host, interface(environ), alone=options.nnodes == 1)
            server = stack.enter_context(serve(options.key, addresses, ports))
            host, ports, number = addresses[0], [server.port], 0
        if options.nnodes == 1:
            return run(options.program, rank_variables(options, environ, 0, f"{host}:{ports[0]}"))
        members = Members(options.key, host, ports, options.nnodes, number)
        variables = rank_variables(options, environ, members.number, f"{host}:{members.port}")
        code = run(options.program, variables, members.has_failed)
        members.leave(failed=code not in (EXIT_DONE, EXIT_STOPPED))
        return code


def serve(key: bytes, addresses: Sequence[str], ports: Sequence[int]) -> StoreServer:
    """Return the store of a job, which listens on these addresses.

    Raises:
        UserError: if no port is free.
    """
    try:
        return StoreServer(key, addresses, ports)
    except OSError as error:
        where = f"port {ports[0]} of {addresses[0]}" if len(ports) == 1 else addresses[0]
        raise UserError(f"the rendezvous of the ranks cannot listen on {where}: {reason(error)}") from None


def rank_variables(options: AgentOptions, environ: Mapping[str, str], number: int, store: str) -> list[dict[str, str]]:
    """Return the environment of each rank. Its names are torchrun's, and those of `runtime.launch_env`.

    Args:
        number: of this host.
        store: address and port of the store.
    """
    defaults = {"GLOO_SOCKET_IFNAME": "lo"} if options.nnodes == 1 else {}
    if options.nproc > 1:
        defaults["OMP_NUM_THREADS"] = "1"  # as torchrun; a training sets its number of threads itself
    job = {
        "WORLD_SIZE": str(options.nnodes * options.nproc),
        "LOCAL_WORLD_SIZE": str(options.nproc),
        "MASTER_ADDR": options.host,
        STORE: store,
        KEY: options.key.hex(),
        PARENT: str(os.getpid()),
    }
    return [
        {**defaults, **environ, **job, "RANK": str(number * options.nproc + rank), "LOCAL_RANK": str(rank)}
        for rank in range(options.nproc)
    ]


def run(
    program: Sequence[str], variables: Sequence[Mapping[str, str]], has_failed: Callable[[], bool] = lambda: False
) -> int:
    """Run a process for each set of variables. Returns the exit code of the job on this host.

    Args:
        has_failed: whether a rank of another host has failed.
    """
    received: list[int] = []
    ranks: dict[int, str] = {}

    def start() -> Iterator[subprocess.Popen[Any]]:
        for each in variables:
            # In its own session a rank gets Ctrl-C once, through this process, and not also from the terminal.
            process = subprocess.Popen(program, env=each, start_new_session=True)
            ranks[process.pid] = each["RANK"]
            yield process

    ended = watch(start(), received, patience=_patience, failed_elsewhere=has_failed)
    code = job_code([process.returncode for process in ended])
    if received and code not in (EXIT_DONE, EXIT_STOPPED):
        return 128 + received[0]
    if code == EXIT_FAILED:
        first = next(process for process in ended if process.returncode)
        print_line(f"error: rank {ranks[first.pid]} {_describe(first)}", to_stderr=True)
    return code


def _patience(code: int) -> float:
    """Ranks stop together, but a rank whose peer has failed may wait for it for ever."""
    return GRACE_S if code == EXIT_STOPPED else 0.0


def job_code(codes: Sequence[int]) -> int:
    """Return the exit code for those of the ranks, in the order in which they have ended.

    If the first rank that fails exits with 2, it has printed the user's error; the others are ended by a signal.
    """
    failed = [code for code in codes if code]
    if not failed:
        return EXIT_DONE
    if set(failed) == {EXIT_STOPPED}:
        return EXIT_STOPPED
    return EXIT_USER if failed[0] == EXIT_USER else EXIT_FAILED


def _describe(process: subprocess.Popen[Any]) -> str:
    where = f"(pid {process.pid}, {socket.gethostname()})"
    if process.returncode < 0:
        return f"{where} was ended by {signal.Signals(-process.returncode).name}"
    return f"{where} has failed with exit code {process.returncode}: its output is above"


if __name__ == "__main__":
    exit_process(run_command(lambda: main(sys.argv[1:], os.environ)))

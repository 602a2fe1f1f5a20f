"""Start training processes: by torchrun, or as ranks forked from a server that has imported torch.

The import of torch takes seconds. A forked rank has it already and is otherwise a normal process with its own
environment, so that tests may start, kill and resume many of them.
"""

import multiprocessing
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOAD = [
    "torch",
    "torch._dynamo",
    "distdl.training.session",
    "distdl.strategies.ddp",
    "distdl.strategies.paramserver.worker",
]
"""Imported once, before ranks are forked. torch's optimizers import dynamo at their first use: seconds each time."""
QUIET = ("--progress", "none", "--telemetry.hz", "0", "--compute.threads", "1")


class Ranks:
    """Forked ranks of one `distdl.train`, with the environment variables that torchrun would set."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        ranks: int = 1,
        env: Mapping[str, str] | None = None,
        places: Sequence[Mapping[str, str]] | None = None,
        main: Callable[[list[str]], int] | None = None,
    ) -> None:
        """`places`: variables of another launcher for each rank; `main`: replaces `distdl.train.main`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._file = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115 - deleted with this object
        self.output = Path(self._file.name)
        """Both output streams of the ranks; otherwise they would inherit those of the fork server."""
        self.processes: list[BaseProcess] = []
        for place in places or torchrun_places(ranks):
            variables = {**(env or {}), **place}
            process = context.Process(
                target=_rank, args=(list(argv), variables, str(Path.cwd()), str(self.output), main)
            )
            process.start()
            self.processes.append(process)

    def wait(self, timeout: float = 120) -> list[int | None]:
        """Exit codes by rank; None for a rank that did not end in time."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    @property
    def text(self) -> str:
        """Output of the ranks so far."""
        return self.output.read_text(encoding="utf-8")

    def kill(self) -> None:
        """Send SIGKILL to all ranks."""
        for process in self.processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.join()


def torchrun_places(ranks: int, *, alone: bool = False) -> list[dict[str, str]]:
    """Variables that torchrun would set for each rank; none for a single rank, unless `alone`."""
    if ranks == 1 and not alone:
        return [{}]
    all_ranks = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "DISTDL_KEY": secrets.token_hex(32),
    }
    return [{**all_ranks, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _rank(
    argv: list[str],
    variables: dict[str, str],
    folder: str,
    output: str,
    main: Callable[[list[str]], int] | None,
) -> None:
    sink = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(sink, stream)
    os.environ.update(variables)
    os.chdir(folder)
    from distdl.cli import train

    sys.exit((main or train.main)(argv))


def train(argv: Sequence[str], *, ranks: int = 1, timeout: float = 120, env: Mapping[str, str] | None = None) -> None:
    """Train to the end. Fails if any rank fails."""
    job = Ranks([*argv, *QUIET], ranks=ranks, env=env)
    codes = job.wait(timeout)
    assert codes == [0] * ranks, f"exit codes {codes} of distdl.train {' '.join(argv)}\n{job.text}"


def torchrun(
    argv: Sequence[str], *, nproc: int = 2, timeout: float = 180, options: Sequence[str] = (), **kwargs: object
) -> subprocess.CompletedProcess[str]:
    """Run `torchrun --standalone --nproc_per_node=N -m distdl.train ARGV` and wait for it."""
    return subprocess.run(
        [*torchrun_command(nproc, options), *argv], capture_output=True, text=True, timeout=timeout, **kwargs
    )


def torchrun_command(nproc: int, options: Sequence[str] = ()) -> list[str]:
    """The command, without the arguments of the training."""
    module = [sys.executable, "-m", "torch.distributed.run"]
    return [*module, "--standalone", f"--nproc_per_node={nproc}", *options, "-m", "distdl.train"]


def free_port() -> int:
    """A free TCP port outside of the range from which the kernel assigns ports."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for(condition, timeout: float = 60, what: str = "the condition") -> None:
    """Wait until `condition()` is true. Fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} was not reached within {timeout} s"
        time.sleep(0.005)


def step_of(run: Path) -> int:
    """The last step in a run's metrics.jsonl."""
    from distdl.core.files import read_rows

    return max((row["step"] for row in read_rows(run / "metrics.jsonl")), default=0)

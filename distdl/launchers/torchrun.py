"""`python -m distdl.launchers.torchrun ARGUMENTS`: torchrun, without the messages that follow a clean stop.

torchrun treats every exit code except 0 as a failure of a rank, and a signal as an error of its own. After a training
that was stopped and saved, its traceback would hide the last lines of the training. All other reports are torchrun's.
"""

from distdl.runtime.interrupts import Importing

with Importing():
    import contextlib
    import logging
    import os
    import signal
    import sys
    from collections.abc import Collection, Sequence
    from types import FrameType
    from typing import NoReturn

    import psutil

    from distdl.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_USER, UserError
    from distdl.runtime.process import exit_process, run_command

PROG = "python -m distdl.launchers.torchrun"
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"
"""Signals that reach the ranks: torchrun's default, and Slurm's warning, which would end torchrun before its ranks."""
GRACE_S = 30.0
"""Seconds that ranks have to save and exit after a signal, as torchrun gives them."""
LOGGERS = ("torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api")
ROUTINE = ("Received %s death signal", "Sending process %s closing signal")
"""Beginnings of log messages about a stop that a user has requested, and about the end of the other ranks."""
FAILED = "failed (exitcode: %s)"


class WithoutRoutine(logging.Filter):
    """Drops the messages of torchrun about ranks that end as they should, or have reported their error."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if message.startswith(FAILED) and isinstance(record.args, tuple):
            return record.args[0] not in (EXIT_STOPPED, EXIT_USER)
        return not message.startswith(ROUTINE)


def main(argv: Sequence[str]) -> int:
    """Run torchrun. Returns the code with which its ranks have exited, or 128 plus the number of the signal."""
    with Importing():
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", SIGNALS)  # the default of torchrun's option
    for name in LOGGERS:
        logging.getLogger(name).addFilter(WithoutRoutine())
    parser = run.get_args_parser()
    parser.prog, parser.error = PROG, _refuse
    arguments = parser.parse_args(argv)
    if run.determine_local_world_size(arguments.nproc_per_node) > 1:
        # torchrun does the same with a warning. A training sets its number of threads itself.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        run.run(arguments)
    except SignalException as error:
        end_ranks(error.sigval)
        return 128 + error.sigval
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        code = code_of(codes, first=error.get_first_failure()[1].exitcode)
        if code == EXIT_FAILED:
            print(error, file=sys.stderr)
        return code
    return EXIT_DONE


def _refuse(message: str) -> NoReturn:
    """Replaces the error of torchrun's parser, which prints 30 lines of usage."""
    raise UserError(f"{message} ({PROG} --help shows all)")


def end_ranks(number: int) -> None:
    """End the ranks that torchrun has left running: if it is interrupted while it starts them, it does not end them."""
    ranks = psutil.Process().children()

    def send(number: int, frame: FrameType | None = None) -> None:
        for rank in ranks:
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.send_signal(number)

    for name in SIGNALS.split(","):  # torchrun's handler would interrupt this function
        signal.signal(signal.Signals[name], send)
    send(number)
    for rank in psutil.wait_procs(ranks, timeout=GRACE_S)[1]:
        rank.kill()


def code_of(codes: Collection[int], first: int) -> int:
    """Exit code for those of the ranks that did not exit with 0.

    Args:
        first: exit code of the rank that ended first. A rank that exits with 2 has printed its error in one line.
    """
    if set(codes) == {EXIT_STOPPED}:
        return EXIT_STOPPED
    return EXIT_USER if first == EXIT_USER else EXIT_FAILED


if __name__ == "__main__":
    exit_process(run_command(lambda: main(sys.argv[1:])))

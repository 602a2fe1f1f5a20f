"""The verbs `distdl slurm begin` and `distdl slurm end`, which a batch script calls around each slice of a training."""

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

from distdl.cli.parameters import MAY_BE_EMPTY
from distdl.cli.recipe import from_command_line
from distdl.core.config import Config, Count, FilePath
from distdl.core.errors import EXIT_DONE, UserError, reason
from distdl.core.text import print_line
from distdl.launchers import slices
from distdl.launchers.ledger import LEDGER
from distdl.launchers.slices import EXIT_OVER, Over, last_line


def begin(arguments: tyro.conf.Positional[tuple[str, ...]], *, queued: Annotated[str, MAY_BE_EMPTY] = "") -> int:
    """Print the seconds after which the training of this slice must stop (0: no limit); exit 3 if there is no slice.

    Args:
        arguments: arguments of distdl train, after `--`.
        queued: time at which the job was submitted or requeued, as squeue's %V shows it.
    """
    run, config = _run_and_config(arguments)
    now = time.time()
    try:
        waited_s = max(now - datetime.fromisoformat(queued).timestamp(), 0.0) if queued else 0.0
    except ValueError:
        raise UserError(f'--queued "{queued}" is not a time as squeue -o %V shows it') from None
    try:
        print_line(slices.begin(run, config, waited_s=waited_s, now=now))
    except Over as over:
        print_line(over, to_stderr=True)
        return EXIT_OVER
    except OSError as error:
        raise _unwritable(error) from None
    return EXIT_DONE


def end(
    arguments: tyro.conf.Positional[tuple[str, ...]],
    *,
    code: Count,
    state: Annotated[str, MAY_BE_EMPTY] = "RUNNING/None",
    log: FilePath | None = None,
) -> int:
    """Record the end of a slice: exit 0 if the job must be requeued, 3 if not.

    Args:
        arguments: arguments of distdl train, after `--`.
        code: the training's exit code.
        state: state of the job, as squeue's %T/%r shows it.
        log: the job's output, which is searched for the reason of a failure.
    """
    run, config = _run_and_config(arguments)
    try:
        why = last_line(log) if log else ""
        total = slices.end(run, config, code=code, state=state, why=why, now=time.time())
    except OSError as error:
        raise _unwritable(error) from None
    print_line(f"slice {total.slices}: {total.status}: {total.reason}", to_stderr=True)
    return EXIT_DONE if total.status == "requeued" else EXIT_OVER


def _run_and_config(argv: tuple[str, ...]) -> tuple[Path, Config]:
    config = from_command_line(argv, strategy="ddp")
    if config.out is None or config.resume != "auto":
        raise UserError("the slices of a training share one run folder: give --out DIR --resume auto")
    return config.out, config


def _unwritable(error: OSError) -> UserError:
    return UserError(f"{error.filename or LEDGER}: {reason(error)}")

"""`distdl train --profile NAME|FILE [--optim.lr 0.1 ...]`: parse, build, run, close.

Started by torchrun, horovodrun or Slurm it is one rank of many; started alone it trains on one device.
"""

from distdl.runtime.interrupts import Importing

with Importing():
    import os
    import sys
    import warnings
    from collections.abc import Sequence
    from typing import TYPE_CHECKING

    from distdl.cli.arguments import asks_for_help, overrides, take_flag
    from distdl.core.errors import EXIT_DONE, EXIT_STOPPED
    from distdl.runtime import cores
    from distdl.runtime.launch_env import launcher_process
    from distdl.runtime.mpi_slurm import join, rank_of
    from distdl.runtime.process import end_with, run_command
    from distdl.runtime.signals import restored_signals

if TYPE_CHECKING:
    from distdl.core.config import Config
    from distdl.training.events import Callback


def main(argv: Sequence[str] | None = None, callbacks: "tuple[Callback, ...]" = ()) -> int:
    """Train as `python -m distdl.train`. Returns the exit code: 0 done, 2 the user's input, 75 stopped, else 1.

    Args:
        argv: without it, the arguments of this process, which then exits: once the training has saved its state, stop
            signals stay ignored, so that they do not change the exit code.
        callbacks: listeners in addition to the usual ones.
    """
    prog = "python -m distdl.train"
    if argv is None:
        return run(sys.argv[1:], callbacks, prog)
    with restored_signals():
        return run(argv, callbacks, prog)


def run(argv: Sequence[str], callbacks: "tuple[Callback, ...]" = (), prog: str = "distdl train") -> int:
    """Train, in a process that then exits. Returns the exit code.

    Args:
        prog: the command as typed, for its help and errors.
    """
    debug, argv = take_flag(argv, "--debug")
    if (launcher := launcher_process()) is not None:
        end_with(launcher)
    cores.passive_waiting()
    cores.observe_start()
    return run_command(lambda: _run(argv, callbacks, prog), debug=debug, rank=rank_of(os.environ))


def _run(argv: Sequence[str], callbacks: "tuple[Callback, ...]", prog: str) -> int:
    join(os.environ)
    with Importing():
        from distdl.cli.recipe import from_command_line, show_help
        from distdl.core.config import Config
        from distdl.core.profiles import profiles

    rank = rank_of(os.environ)
    if asks_for_help(argv):
        if rank == 0:
            show_help(argv, prog)
        return EXIT_DONE
    listing, argv = take_flag(argv, "--list")
    if listing:
        overrides(Config, argv, prog, profile=str)  # a mistake elsewhere is reported all the same
        from distdl.core.console import PlainConsole

        first_lines = {name: file.read_text(encoding="utf-8").partition("\n")[0] for name, file in profiles().items()}
        PlainConsole().print_rows([(name, line.lstrip("# ")) for name, line in first_lines.items()])
        return EXIT_DONE
    with Importing():
        from distdl.runtime.launch_env import choose_strategy, is_elastic_horovod
        from distdl.training.restart import after_restart

    with warnings.catch_warnings():
        if rank:
            warnings.simplefilter("ignore", FutureWarning)  # about old names: rank 0 prints it
        config = from_command_line(argv, strategy=choose_strategy(), prog=prog)
    config = after_restart(config, os.environ)
    if is_elastic_horovod():
        from distdl.training import elastic

        return elastic.run(config, lambda config, more: _train(config, (*more, *callbacks)))
    return _train(config, callbacks)


def _train(config: "Config", callbacks: "tuple[Callback, ...]" = ()) -> int:
    with Importing():
        from distdl.strategies.base import make

        strategy = make(config)
    world = strategy.setup()
    if world.role == "serve":
        strategy.serve()
        strategy.close()
        return EXIT_DONE
    with Importing():
        import psutil

        from distdl.training.session import train

    try:
        status = train(config, strategy, callbacks, began=psutil.Process().create_time(), exits=True)
    finally:
        strategy.close()
    return EXIT_DONE if status == "completed" else EXIT_STOPPED

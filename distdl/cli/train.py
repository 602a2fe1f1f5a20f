"""`python -m distdl.train --profile NAME|FILE [--optim.lr 0.1 ...]`: parse, build, run, close.

Started by torchrun, horovodrun or Slurm it is one rank of many; started alone it trains on one device.
"""

from distdl.runtime.interrupts import Importing

with Importing():
    import os
    import sys
    from collections.abc import Sequence
    from typing import TYPE_CHECKING

    from distdl.cli.arguments import asks_for_help, overrides, take_flag
    from distdl.core.errors import EXIT_DONE, EXIT_STOPPED
    from distdl.runtime import cores
    from distdl.runtime.mpi_slurm import join, rank_of
    from distdl.runtime.process import run_command

if TYPE_CHECKING:
    from distdl.core.config import Config
    from distdl.training.events import Callback


def main(argv: Sequence[str] | None = None, callbacks: "tuple[Callback, ...]" = ()) -> int:
    """Train. Returns the exit code: 0 done, 2 the user's input, 75 stopped and resumable, else 1.

    Args:
        callbacks: listeners in addition to the usual ones.
    """
    debug, argv = take_flag(sys.argv[1:] if argv is None else argv, "--debug")
    cores.passive_waiting()
    cores.observe_start()
    return run_command(lambda: _main(argv, callbacks), debug=debug, rank=rank_of(os.environ))


def _main(argv: Sequence[str], callbacks: "tuple[Callback, ...]" = ()) -> int:
    join(os.environ)
    with Importing():
        from distdl.cli.recipe import from_command_line, show_help
        from distdl.core.config import Config
        from distdl.core.profiles import profiles

    if asks_for_help(argv):
        if rank_of(os.environ) == 0:
            show_help(argv)
        return EXIT_DONE
    listing, argv = take_flag(argv, "--list")
    if listing:
        overrides(Config, argv, "distdl.train", profile=str)  # a mistake elsewhere is reported all the same
        from distdl.core.console import PlainConsole

        first_lines = {name: file.read_text(encoding="utf-8").partition("\n")[0] for name, file in profiles().items()}
        PlainConsole().print_rows([(name, line.lstrip("# ")) for name, line in first_lines.items()])
        return EXIT_DONE
    with Importing():
        from distdl.runtime.launch_env import choose_strategy, is_elastic_horovod
        from distdl.training.restart import after_restart

    config = after_restart(from_command_line(argv, strategy=choose_strategy()), os.environ)
    if is_elastic_horovod():
        from distdl.training.elastic import run

        return run(config, lambda config, more: _train(config, (*more, *callbacks)))
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
        status = train(config, strategy, callbacks, began=psutil.Process().create_time())
    finally:
        strategy.close()
    return EXIT_DONE if status == "completed" else EXIT_STOPPED


if __name__ == "__main__":
    from distdl.runtime.process import exit_process, with_torchelastic_record

    exit_process(with_torchelastic_record(main)())

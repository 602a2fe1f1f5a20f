"""`distdl VERB ...`: the verbs and their functions.

This module imports nothing heavy, so that `distdl --help` is fast; the module of a verb is imported when the verb is
called. A verb is a plain function: `distdl.cli.arguments` reads its signature and docstring.
"""

from distdl.runtime.interrupts import Importing

with Importing():
    import importlib
    import sys
    from collections.abc import Sequence
    from typing import NamedTuple

    from distdl.cli.arguments import HELP, parse, take_flag
    from distdl.core.errors import EXIT_DONE, UserError, nearest
    from distdl.runtime.process import escape_tracebacks, exit_process, run_command
    from distdl.runtime.signals import restored_signals


class Verb(NamedTuple):
    """The function of a verb ("package.module:function"), and its line in `distdl --help`."""

    target: str
    help: str
    raw: bool = False
    """The function parses the arguments itself and returns the exit code."""


VERBS: dict[str, Verb] = {
    "train": Verb("distdl.cli.train:run", "train a network (also python -m distdl.train)", raw=True),
    "flops": Verb("distdl.cli.flops:flops", "count FLOPs, parameters and bytes of a network, by layer"),
    "paleo": Verb("distdl.cli.paleo:paleo_command", "predict step time and scaling from a device's data sheet"),
    "calibrate": Verb("distdl.cli.calibrate:calibrate", "measure this machine and write a device file for paleo"),
    "profile": Verb("distdl.cli.profile:profile", "measure the time of each layer, and compare with PALEO"),
    "fit speed": Verb("distdl.cli.fit_speed:speed", "fit a speed model to measured step times"),
    "fit loss": Verb("distdl.cli.fit_loss:loss", "fit a loss curve and predict epochs to a target"),
    "predict speed": Verb(
        "distdl.cli.predict_speed:predict_speed", "predict step times of other configurations from a fit"
    ),
    "explain": Verb("distdl.cli.explain:explain", "show where a run's time went, and the most effective fix"),
    "launch": Verb("distdl.cli.launch:launch", "start a training on several devices or hosts"),
    "hosts": Verb("distdl.cli.hosts:hosts", "emulate several hosts with rate-limited links (needs root)"),
    "export": Verb("distdl.cli.export:export", "export the weights of a run as safetensors"),
    "submit": Verb("distdl.cli.submit:submit", "train as a Slurm job that requeues itself until done"),
    "slurm begin": Verb("distdl.cli.slurm:begin", "start a slice of a training (for batch scripts)"),
    "slurm end": Verb("distdl.cli.slurm:end", "end a slice; exit 0 if the job must be requeued"),
    "verify-resume": Verb("distdl.cli.verify_resume:verify_resume", "kill and resume a training, and compare all bits"),
    "probe network": Verb("distdl.cli.probe_network:probe_network", "measure bandwidth and latency between ranks"),
    "list": Verb("distdl.cli.list:list_components", "list components: optimizers, strategies, models, ..."),
    "models list": Verb("distdl.cli.list:list_models", "list networks by name or pattern: 'resnet*'"),
    "data list": Verb("distdl.cli.data_list:list_sets", "list data sets and whether they are on this machine"),
    "data describe": Verb("distdl.cli.data_describe:describe", "show splits, classes and sizes of a data set"),
    "data verify": Verb("distdl.cli.data_verify:verify_set", "decode all images, find duplicates, check files"),
    "study list": Verb("distdl.cli.list:list_studies", "list studies"),
    "study run": Verb("distdl.cli.study:run_words", "run or resume the trials of a study", raw=True),
    "study show": Verb("distdl.cli.study:show", "show the results of a study"),
    "report": Verb("distdl.cli.report:report", "write an HTML page of a run, several runs or a study"),
    "data pack": Verb("distdl.cli.data_pack:pack", "pack a data set into tar shards or records"),
    "data export": Verb("distdl.cli.data_export:export", "export a data set as folders of files, or smaller JPEGs"),
    "data bench": Verb("distdl.cli.data_bench:bench", "measure images/s by loader, and find the bottleneck"),
    "doctor": Verb("distdl.cli.doctor:doctor", "check this machine, and show how to install what is missing"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0, or 2 after an error message on stderr.

    Args:
        argv: without it, the arguments of this process, which then exits.
    """
    if argv is None:
        escape_tracebacks()
        return _main(sys.argv[1:])
    with restored_signals():
        return _main(argv)


def _main(argv: Sequence[str]) -> int:
    debug, argv = take_flag(argv, "--debug")
    return run_command(lambda: _run(argv), debug=debug)


def _run(args: list[str]) -> int:
    if args[:1] == ["help"]:
        args = [*args[1:], HELP[0]]
    if not args or args[0] in HELP:
        print(_overview(VERBS))
        return EXIT_DONE
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"distdl {version('distdl')}")
        return EXIT_DONE
    length = 2 if " ".join(args[:2]) in VERBS else 1
    name = " ".join(args[:length])
    if name not in VERBS:
        group = {verb: entry for verb, entry in VERBS.items() if verb.split()[0] == args[0]}
        if group and (len(args) == 1 or args[1] in HELP):
            print(_overview(group))
            return EXIT_DONE
        typed = " ".join(args[:2]) if group else args[0]
        raise UserError(f'"{typed}" is not a command of distdl{nearest(typed, VERBS)} (distdl --help shows all)')
    module, function = VERBS[name].target.split(":")
    with Importing():
        call = getattr(importlib.import_module(module), function)
    result = call(args[length:]) if VERBS[name].raw else parse(call, args[length:], prog=f"distdl {name}")
    return result if isinstance(result, int) else EXIT_DONE


def _overview(verbs: dict[str, Verb]) -> str:
    width = max((len(name) for name in verbs), default=0)
    rows = [f"  {name:<{width}}  {entry.help}" for name, entry in verbs.items()]
    return "\n".join(
        [
            "distdl: distributed training, with time and cost predicted before you start.",
            "",
            "usage: distdl VERB [options]        distdl VERB --help for details",
            "",
            *rows,
            "",
            "  --debug shows the traceback of an error.",
        ]
    )


if __name__ == "__main__":
    exit_process(main())

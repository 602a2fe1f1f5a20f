"""`distdl VERB ...`: which verbs there are, and where the function behind each lives.

This module imports nothing heavy, so that `distdl --help` answers at once; a verb's module is imported when the verb
is called. A verb is a plain function: `distdl.cli.arguments` reads its signature and docstring.
"""

from distdl.runtime.interrupts import Importing

with Importing():
    import importlib
    import sys
    from collections.abc import Sequence
    from typing import NamedTuple

    from distdl.cli.arguments import HELP, parse, take_flag
    from distdl.core.errors import EXIT_DONE, UserError, nearest
    from distdl.runtime.process import leave, run_command


class Verb(NamedTuple):
    """Where a verb's function is ("package.module:function"), and the line that `distdl --help` shows."""

    target: str
    help: str
    raw: bool = False
    """The function parses the words itself and returns the exit code."""


VERBS: dict[str, Verb] = {
    "train": Verb("distdl.cli.train:main", "train a network: the same as python -m distdl.train", raw=True),
    "flops": Verb("distdl.cli.flops:flops", "count a network's FLOPs, parameters and bytes, layer by layer"),
    "paleo": Verb("distdl.cli.paleo:paleo_command", "a network's time on a device from its data sheet, and scaling"),
    "calibrate": Verb("distdl.cli.calibrate:calibrate", "measure this machine into a device file for paleo"),
    "profile": Verb("distdl.cli.profile:profile", "each layer's measured time here, beside the predicted"),
    "fit speed": Verb("distdl.cli.fit:speed", "fit step times: Optimus, goodput, or ours, with intervals"),
    "fit loss": Verb("distdl.cli.fit:loss", "fit a loss curve: Optimus' hyperbola, and phases with intervals"),
    "predict speed": Verb("distdl.cli.fit:predict_speed", "step time of other configurations, from a fit"),
    "explain": Verb("distdl.perf.usage.explain:explain", "where a run's time went, and what would mend the most"),
    "launch": Verb("distdl.cli.launch:launch", "start a training by torchrun, horovodrun, mpirun, srun, ..."),
    "hosts": Verb("distdl.cli.launch:hosts", "several hosts on this machine, with shaped links, by root"),
    "export": Verb("distdl.cli.export:export", "a run's weights as a safetensors file"),
    "submit": Verb("distdl.cli.launch:submit", "train as a Slurm job that queues itself again until done"),
    "slurm begin": Verb("distdl.cli.slurm:begin", "start a slice of a training; batch scripts call it"),
    "slurm end": Verb("distdl.cli.slurm:end", "end a slice: exit 0 if the job must be queued again"),
    "verify-resume": Verb(
        "distdl.cli.verify_resume:verify_resume", "kill a training at random moments, resume it, compare every bit"
    ),
    "probe network": Verb("distdl.cli.launch:probe_network", "bandwidth and latency between ranks"),
    "list": Verb("distdl.cli.list:list_components", "components by kind: optimizers, strategies, models, ..."),
    "models list": Verb("distdl.cli.list:list_models", "networks by name or pattern: 'resnet*'"),
    "data list": Verb("distdl.cli.data:list_sets", "which data sets are known, and which are here"),
    "data describe": Verb("distdl.cli.data:describe", "a data set's division, classes, sizes and a picture of it"),
    "data verify": Verb(
        "distdl.cli.data_verify:verify_set", "decode every image of a set, find duplicates, check its files"
    ),
    "study list": Verb("distdl.cli.study:list_studies", "the studies that there are"),
    "study run": Verb(
        "distdl.cli.study:run_words", "run a study's trials, or go on with it; any number may share", raw=True
    ),
    "study show": Verb("distdl.cli.study:show", "what a study's trials came to, and what they show"),
    "report": Verb("distdl.cli.report:report", "a run, several side by side, or a study, as a page to send"),
    "data pack": Verb("distdl.cli.data_move:pack", "a set into tar shards or records: few large files"),
    "data export": Verb("distdl.cli.data_move:export", "a set into folders of files, or of smaller JPEGs"),
    "data bench": Verb("distdl.cli.data_bench:bench", "images/s by loader, and what holds input back"),
    "doctor": Verb("distdl.cli.doctor:doctor", "what this machine has, and what brings the rest"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0, or 2 after a line on stderr that says what to do."""
    debug, argv = take_flag(sys.argv[1:] if argv is None else argv, "--debug")
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
    words = 2 if " ".join(args[:2]) in VERBS else 1
    name = " ".join(args[:words])
    if name not in VERBS:
        group = {verb: entry for verb, entry in VERBS.items() if verb.split()[0] == args[0]}
        if group and (len(args) == 1 or args[1] in HELP):
            print(_overview(group))
            return EXIT_DONE
        typed = " ".join(args[:2]) if group else args[0]
        raise UserError(f'"{typed}" is not a verb of distdl{nearest(typed, VERBS)} (distdl --help shows all)')
    module, function = VERBS[name].target.split(":")
    with Importing():
        call = getattr(importlib.import_module(module), function)
    result = call(args[words:]) if VERBS[name].raw else parse(call, args[words:], prog=f"distdl {name}")
    return result if isinstance(result, int) else EXIT_DONE


def _overview(verbs: dict[str, Verb]) -> str:
    width = max((len(name) for name in verbs), default=0)
    rows = [f"  {name:<{width}}  {entry.help}" for name, entry in verbs.items()]
    return "\n".join(
        [
            "distdl: train on many devices, and know beforehand how long it will take.",
            "",
            "usage: distdl VERB [options]        distdl VERB --help tells more",
            "",
            *rows,
            "",
            "  --debug shows the traceback of an error.",
        ]
    )


if __name__ == "__main__":
    leave(main())

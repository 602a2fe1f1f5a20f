"""The verbs `distdl study run` and `distdl study show`."""

import contextlib
import dataclasses
import re
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from distdl.cli.arguments import asks_for_help, parse
from distdl.cli.help import show_help
from distdl.core.config import Count, FilePath
from distdl.core.console import PlainConsole
from distdl.core.errors import EXIT_DONE, UserError, as_literal
from distdl.core.names import as_name
from distdl.core.text import printable
from distdl.report.content import Section
from distdl.studies.base import Overrides, Study
from distdl.studies.runner import catalog
from distdl.studies.runner.folder import STUDY, StudyFolder

if TYPE_CHECKING:
    from distdl.studies.runner.run import Runner

_GPU = re.compile(r"[0-9]{1,4}|(GPU|MIG)-[A-Za-z0-9/-]+")
"""Index or UUID of a GPU."""
RUN_OPTIONS = ("profile", "set", "jobs", "gpus", "slurm", "quick", "out", "leave")


def show(study: tyro.conf.Positional[FilePath]) -> None:
    """Show a study's progress and its results so far.

    Args:
        study: the study's folder.
    """
    from distdl.studies.runner import trial_lock as claim
    from distdl.studies.runner.progress import failures, progress

    folder = StudyFolder.open(study)
    console = PlainConsole()
    outcomes = folder.outcomes()
    done = sum(outcome.completed for outcome in outcomes.values())
    console.print(f"{folder.study.name}: {done} of {len(outcomes)} trials completed")
    states = {name: outcome.status for name, outcome in outcomes.items()}
    records = {
        name: dataclasses.replace(claim.read(outcome.folder), status=states[name]) for name, outcome in outcomes.items()
    }
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states.values()).items())
    console.print(f"{counts}; {progress(states, records)}")
    for line in failures(folder.trials, records):
        console.print(line, style="red", soft_wrap=not console.is_terminal)
    _show(folder, console)


def run_words(argv: Sequence[str]) -> int:
    """`distdl study run`: a study's settings are options too, --workers 1,2 for --set workers=1,2."""
    from distdl.studies.runner.settings import fields

    prog = "distdl study run"
    if not argv or argv[0].startswith("-"):
        return parse(run, argv, prog=prog)
    study = catalog.find(argv[0])
    if asks_for_help(argv):
        return _help(study, prog)
    settings = [f"--{name.replace('_', '-')}" for name in fields(study)]
    return parse(run, own_options(argv, study), prog=f"{prog} {study.name}", known=settings)


def own_options(argv: Sequence[str], study: Study) -> list[str]:
    """The arguments, with the study's settings (`--key value` or `--key=value`) collected behind one --set."""
    from distdl.studies.runner.settings import fields

    names = {*fields(study), *study.renamed}
    rest: list[str] = []
    assignments: list[str] = []
    remaining = list(argv)
    while remaining:
        word = remaining.pop(0)
        option, equals, value = word.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        name = key.partition(".")[0]
        if word == "--set":
            while remaining and not remaining[0].startswith("--"):
                assignments.append(remaining.pop(0))
        elif option == "--set":
            assignments.append(value)
        elif word == "--slurm" and remaining:  # its value begins with -- like an option
            rest.append(f"--slurm={remaining.pop(0)}")
        elif option.startswith("--") and name in names and name not in RUN_OPTIONS:
            if not equals and (not remaining or remaining[0].startswith("--")):
                raise UserError(f"{option} needs a value")
            assignments.append(f"{key}={value if equals else remaining.pop(0)}")
        else:
            rest.append(word)
    return [*rest, *(["--set", *assignments] if assignments else [])]


def _help(study: Study, prog: str) -> int:
    settings = f"settings of {study.name}, as --KEY VALUE or --set KEY=VALUE:"
    for target, usage in ((run, ""), (study.settings, settings)):
        with contextlib.suppress(SystemExit):
            show_help(target, prog, usage=usage)
    for name, kind in typing.get_type_hints(study.settings).items():
        if kind == Overrides:
            print(f"--{name}.FIELD VALUE sets a field of the trainings, by its option of distdl train: --{name}.seed 1")
    return EXIT_DONE


def run(
    name: tyro.conf.Positional[str],
    *,
    profile: str = "",
    set: tuple[str, ...] = (),
    jobs: Count = 0,
    gpus: str = "",
    slurm: str = "",
    quick: bool = False,
    out: FilePath | None = None,
    leave: bool = False,
) -> int:
    """Run or resume a study. The same command on other hosts with the same file system shares the work.

    Args:
        name: name of the study (distdl study list), or package.module:STUDY.
        profile: settings from profiles/studies/NAME-PROFILE.toml or a TOML file.
        set: settings as key=value; each is also an option (--key value).
        jobs: number of trials at the same time; 0: one per GPU of --gpus, or one without GPUs.
        gpus: GPUs to use: 0,1 or all. Each trial takes one per rank.
        slurm: submit it as an array of Slurm jobs that share the folder: options of sbatch in quotes, as
            "--array=0-3 --gpus=1 --time=2:00:00".
        quick: a small version, which runs in minutes on two cores.
        out: the study's folder; by default runs/studies/NAME, or NAME-quick, with a dot instead of a colon. An existing
            folder keeps its settings if none are given.
        leave: exit when no trial is left to start, without waiting for those of other processes.
    """
    from distdl.studies.runner import needs
    from distdl.studies.runner.settings import resolve
    from distdl.studies.runner.slurm import submit

    study = catalog.find(name)
    if study.alone and (jobs > 1 or (gpus and not jobs)):
        raise UserError(
            f"study {name} measures time: its trials run one at a time on a host: use --jobs 1 or omit --jobs"
        )
    names = () if slurm else _gpus(gpus)
    if names and jobs > len(names):
        raise UserError(f"--jobs {jobs}: --gpus names only {len(names)}")
    path = out or Path("runs/studies") / f"{as_name(name.replace(':', '.'))}{'-quick' * quick}"
    if out and (out / STUDY).exists() and not (profile or set or quick):
        folder = StudyFolder.open(out)
        if folder.study.name != name:
            raise UserError(f"{out} contains study {folder.study.name}: choose another --out")
        needs.check(folder)
    else:
        planned = StudyFolder(path, study, resolve(study, profile=profile, assignments=set, quick=quick))
        needs.check(planned)
        folder = StudyFolder.create(path, study, planned.settings)
    if slurm:
        return submit(folder, slurm, jobs=jobs, gpus=gpus)
    return _run(folder, jobs=jobs or max(len(names), 1), gpus=names, leave=leave)


def _gpus(assignments: str) -> tuple[str, ...]:
    if assignments != "all":
        names = tuple(filter(None, assignments.split(",")))
        if odd := [name for name in names if not _GPU.fullmatch(name)]:
            raise UserError(f"--gpus: {as_literal(odd[0])} is not a GPU: write 0,1 or all")
        return names
    from distdl.telemetry.nvml import visible_uuids

    if not (uuids := visible_uuids()):
        raise UserError("--gpus all: no GPU was found: remove the option")
    return tuple(uuids)


def _run(folder: StudyFolder, *, jobs: int, gpus: tuple[str, ...], leave: bool) -> int:
    from distdl.studies.runner.progress import ProgressDisplay
    from distdl.studies.runner.run import Runner

    console = PlainConsole()
    count = len(folder.trials)
    trials = "1 trial" if count == 1 else f"{count} trials"
    console.print(f"study {folder.study.name}: {trials} in {folder.path}", soft_wrap=True)
    with ProgressDisplay(console) as board:
        runner = Runner(folder, jobs=jobs, gpus=gpus, leave=leave, watch=board)
        code = runner.run()
    _complain(runner, console)
    if sections := _show(folder, console):
        _write_page(folder, sections, console)
    console.print(f"study folder: {folder.path}", soft_wrap=True)
    return code


def _complain(runner: "Runner", console: Console) -> None:
    from distdl.studies.runner.run import SAME_FAILURES
    from distdl.studies.runner.trial_lock import LOG

    waiting = 0
    for trial in runner.folder.trials:
        state, record = runner.status(trial), runner.states[trial.name]
        if state == "failed":
            log = runner.folder.folder(trial) / LOG
            reason = printable(record.reason)
            console.print(f"failed: {trial.name}: {reason}\n  {log}", style="red", soft_wrap=True)
        elif state == "not started":
            console.print(f"not started: {trial.name}: a trial that it depends on has failed", style="yellow")
        elif state == "stopped":
            console.print(f"stopped: {trial.name}: run the same command to resume it", style="yellow")
        waiting += state == "waiting"
    if runner.given_up:
        text = (
            f"not started: {waiting} more trials, after {SAME_FAILURES} failed for the same reason: {runner.given_up}"
        )
        console.print(printable(text), style="red", soft_wrap=True)


def _show(folder: StudyFolder, console: Console) -> list[Section]:
    """Print the results so far and write findings.json."""
    from distdl.report.terminal import show

    if not any(outcome.completed for outcome in folder.outcomes().values()):
        console.print("no trial is completed yet: there is nothing to show")
        return []
    sections = folder.sections()
    folder.write_findings(sections)
    show(sections, console)
    return sections


def _write_page(folder: StudyFolder, sections: list[Section], console: Console) -> None:
    """report.html, or a line on what it needs: a study that has ended well has ended well."""
    from distdl.studies.runner.page import write_study

    try:
        console.print(f"report: {write_study(folder.path, sections)}", soft_wrap=True)
    except UserError as error:
        console.print(f"no report: {error}", style="yellow", soft_wrap=True)

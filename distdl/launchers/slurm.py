"""A Slurm batch script that trains in slices, and its submission.

launch/slurm/requeue.sbatch and launch/slurm/array.sbatch are what `script` writes for the examples below.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from distdl.core.errors import UserError, reason
from distdl.core.files import write_atomic
from distdl.core.profiles import Recipe
from distdl.launchers.job import arguments
from distdl.launchers.srun import LEAVE


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One training as a Slurm job, or as an array of them."""

    recipe: Recipe
    """The training, without out, resume and, in an array, seed."""
    run: str
    """The run folder; in an array the folder of the run folders. All nodes must see it."""
    name: str
    nodes: int = 1
    nproc: int = 1
    """Ranks on each node."""
    gpus: int = 0
    """On each node."""
    time_s: int = 2400
    """Length of a slice."""
    array: str = ""
    """Indices, as Slurm writes them (0-4, or 0-9%2): one run for each, which is its seed."""
    options: tuple[str, ...] = ()
    """Further options of sbatch: "partition=gpu"."""
    python: str = "python"
    logs: str = ""
    """Folder of the job's output, which must be there before the job; empty is the one it is submitted from."""


_DIGITS = Submission(recipe=Recipe(), run="runs/digits", name="digits", python="/path/to/venv/bin/python")
REQUEUE = replace(_DIGITS, nodes=2, nproc=4, gpus=4)
ARRAY = replace(_DIGITS, run="runs/digits-seeds", gpus=1, array="0-4%2")


def warning_s(time_s: int) -> int:
    """How long before the limit the ranks are told to stop: the last step and the checkpoint must fit in.

    Slurm looks at its limits every half minute and may be early by a whole one, so that more would cost much.
    """
    return min(120, time_s // 4)


def script(job: Submission) -> str:
    """The batch script, with comments for the person who reads it."""
    minutes = -(-job.time_s // 60)
    check_options(job.options, own_options(_head(_directives(replace(ARRAY, gpus=1)))), INSTEAD)
    head = _head([*_directives(job), *map(directive, job.options)])
    own = _ARRAY if job.array else _SINGLE
    seed = ' --seed "$SLURM_ARRAY_TASK_ID"' if job.array else ""
    return _SCRIPT.format(
        head=head,
        own=own.format(
            run=shlex.quote(job.run), log=f"{shlex.quote(job.logs)}/slurm-" if job.logs else "slurm-$SLURM_JOB_NAME-"
        ),
        python=shlex.quote(job.python),
        train=shlex.join(arguments(job.recipe)) + seed,
        srun=" ".join(LEAVE),
        minutes=minutes,
        warning=warning_s(minutes * 60),
    )


def _directives(job: Submission) -> list[str]:
    """Lines of options that the script sets itself."""
    minutes = -(-job.time_s // 60)
    log = f"{pattern(job.logs)}/slurm-" if job.logs else "slurm-%x-"
    return [
        f"--job-name={quote(job.name)}",
        f"--nodes={job.nodes} --ntasks-per-node={job.nproc}",
        *([f"--gpus-per-node={job.gpus}"] if job.gpus else []),
        *([f"--array={job.array}"] if job.array else []),
        f"--time={minutes} --signal=USR2@{warning_s(minutes * 60)}",
        f"--requeue --open-mode=append --output={quote(log + ('%A_%a' if job.array else '%j') + '.log')}",
    ]


def _head(directives: Sequence[str]) -> str:
    return "\n".join(f"#SBATCH {line}" for line in directives)


def directive(option: str) -> str:
    """An option of sbatch, given as "name" or "name=value", as an #SBATCH line has it."""
    name, equals, value = option.partition("=")
    return f"--{name}{equals}{quote(value)}" if equals else f"--{name}"


def quote(value: str) -> str:
    """A value as sbatch reads it in an #SBATCH line: in double quotes where it has a character that sbatch interprets.

    Raises:
        UserError: for a line break or another control character, which no directive can hold.
    """
    if any(not character.isprintable() for character in value):
        raise UserError(f"{value!r} has a line break or control character, which a Slurm directive cannot hold")
    if re.fullmatch(r"[\w%@.,:/=+-]*", value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def pattern(path: str) -> str:
    """A path as Slurm reads it in --output, where % begins a placeholder.

    Raises:
        UserError: for a backslash, which makes Slurm take the job's number out of the whole name.
    """
    if "\\" in path:
        raise UserError(f"{path!r} has a backslash, which Slurm cannot have in --output: choose another folder")
    return path.replace("%", "%%")


def own_options(script: str) -> list[str]:
    """Names of the options that a batch script's #SBATCH lines set."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    return re.findall(r"(?<= )--([a-z-]+)", " ".join(lines))


def check_options(
    options: Sequence[str], own: Sequence[str], instead: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse options of sbatch ("name" or "name=value") that a script sets itself, or that contradict those.

    sbatch takes any unambiguous beginning of an option's name, so that a beginning of one of ours is refused too.

    Args:
        own: names of the options that the script sets.
        instead: for some of them, what the user can do.
    Raises:
        UserError: naming the option and what to use instead.
    """
    families = {name.partition("-")[0] for name in own if "-" in name}  # ntasks conflicts with ntasks-per-node
    for option in options:
        name = option.partition("=")[0].removeprefix("no-")
        family = name.partition("-")[0]
        conflicts = [known for known in (*own, *_CONTRADICTS) if known.startswith(name)]
        conflicts += [known for known in own if family in families and known.partition("-")[0] == family]
        if conflicts:
            remedy = instead.get(conflicts[0], "leave it out")
            raise UserError(f'sbatch option "{option}" conflicts with --{conflicts[0]} of the batch script: {remedy}')


_CONTRADICTS = ("error", "chdir")
"""Options that move what the script relies on: where it reads a failure's reason, and where the run folder is."""
INSTEAD = {
    "job-name": "use --name after --",
    "nodes": "use --nodes",
    "ntasks-per-node": "use --nproc",
    "gpus-per-node": "use --gpus",
    "array": "use --array",
    "time": "use --time",
    "output": "use --out",
    "error": "the log is in the folder that --out names",
    "chdir": "submit from that folder",
}


_SCRIPT = """\
#!/bin/bash
{head}
#
# Trains in slices of {minutes} minutes. {warning} s before a slice's limit Slurm sends SIGUSR2 to the ranks.
# They finish their step, save, and exit with 75; then the job queues itself again, and the next slice goes on from
# there. It ends when the training is done, when slurm.total_lifetime_s of computing is used up, when it failed more
# than slurm.max_restarts times in a row without a new checkpoint, or by scancel. The run folder's slices.jsonl has a
# line for every begin and every end, its result.json the sums.

python={python}  # of the environment that distdl is installed in, on every node
{own}
train=({train} --out "$run" --resume auto)

slice() {{ "$python" -m distdl.cli slurm "$@" -- "${{train[@]}}"; }}
trap : TERM USR2  # what stops the ranks must not stop this script, which has to write down how they ended

# How long this slice may take by itself: 0 (no such limit) but for the last part of the total lifetime.
seconds=$(slice begin --queued "$(squeue --noheader --job "$job" --format %V)") || exit

# One task a rank. Since Slurm 22.05 srun has to be told again how many cores a task has.
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
srun {srun} \\
    "$python" -m distdl.train "${{train[@]}}" --max-time "$seconds"
code=$?

state=$(squeue --noheader --job "$job" --format %T/%r)  # scancel shows here: then it must not be queued again
slice end --code "$code" --state "$state" --log "$log" || exit "$code"
scontrol requeue "$job"
"""
_SINGLE = """\
job=$SLURM_JOB_ID
run={run}
log={log}$job.log"""
_ARRAY = """\
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID  # the id of one task; the job's alone would mean all of them
folder={run}
run=$folder/seed-$SLURM_ARRAY_TASK_ID
log={log}$job.log"""


def parse_time(text: str) -> int:
    """Seconds of a time as Slurm writes it: MIN, MIN:SEC, H:MIN:SEC, D-H, D-H:MIN, D-H:MIN:SEC.

    Raises:
        UserError: for anything else, or less than a minute.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not match:
        raise UserError(f'--time "{text}" is not a time of Slurm: write 40 (minutes), 2:00:00, or 1-12:00:00')
    days, *rest = match.groups()
    given = [int(part) for part in rest if part is not None]
    units = (3600, 60, 1) if days is not None or len(given) == 3 else (60, 1)
    seconds = int(days or 0) * 86400 + sum(part * unit for part, unit in zip(given, units, strict=False))
    if seconds < 60:
        raise UserError(f'--time "{text}" is less than a minute, which is the least that Slurm counts')
    return seconds


def submit(job: Submission) -> str:
    """Hand the script to sbatch and keep it in the run folder. Returns the job's id.

    Raises:
        UserError: if the folder cannot be made, without sbatch, or with sbatch's reason; nothing is left then.
    """
    text, folder = script(job), Path(job.run)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the job, which writes its log there
        number = hand_over(text)
    except OSError as error:
        raise UserError(f"the run folder {folder} cannot be made: {reason(error)}") from None
    except UserError:
        for path in missing:
            path.rmdir()
        raise
    write_atomic(folder / "job.sbatch", lambda sink: sink.write(text.encode()))
    return number


def hand_over(text: str) -> str:
    """Give a batch script to sbatch. Returns the job's id.

    Raises:
        UserError: without sbatch, or with sbatch's reason.
    """
    sbatch = shutil.which("sbatch")
    if not sbatch:
        raise UserError("there is no sbatch: submit from a login node of the cluster, or see the script by --dry-run")
    # Variables such as SBATCH_ARRAY_INX go before the script's own lines.
    own = tuple(f"SBATCH_{name.upper().replace('-', '_')}" for name in (*own_options(text), "array", "no-requeue"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run([sbatch, "--parsable"], input=text, env=environ, capture_output=True, text=True, check=False)
    job = re.match(r"\d+", done.stdout)
    if done.returncode or not job:  # --test-only and its like end with 0, and submit nothing
        raise UserError(f"sbatch did not submit it: {' '.join(done.stderr.split()) or 'it printed no job id'}")
    return job[0]

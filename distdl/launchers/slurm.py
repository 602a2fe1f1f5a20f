"""A Slurm batch script that trains in slices, and its submission.

launch/slurm/requeue.sbatch and launch/slurm/array.sbatch are the scripts of the examples below.
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

from distdl.core.errors import UserError, reason, shortened
from distdl.core.files import write_atomic
from distdl.core.profiles import Recipe
from distdl.launchers.commands import SRUN_OPTIONS
from distdl.launchers.job import arguments


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One training as a Slurm job, or as an array of them."""

    recipe: Recipe
    """The training, without out, resume and, in an array, seed."""
    run: str
    """Run folder, on a file system that all nodes share; in an array, the folder of the run folders."""
    name: str
    nodes: int = 1
    nproc: int = 1
    """Ranks on each node."""
    gpus: int = 0
    """GPUs on each node."""
    time_s: int = 2400
    """Length of a slice in seconds."""
    array: str = ""
    """Indices in Slurm's notation (0-4, or 0-9%2): one run per index, which is its seed."""
    options: tuple[str, ...] = ()
    """Further options of sbatch: "partition=gpu"."""
    python: str = "python"
    logs: str = ""
    """Folder of the job's output, which must exist before the job; empty: the folder of the submission."""


_DIGITS = Submission(recipe=Recipe(), run="runs/digits", name="digits", python="/path/to/venv/bin/python")
REQUEUE = replace(_DIGITS, nodes=2, nproc=4, gpus=4)
ARRAY = replace(_DIGITS, run="runs/digits-seeds", gpus=1, array="0-4%2")


def warning_s(time_s: int) -> int:
    """Seconds before the time limit at which the ranks are asked to stop: the last step and the checkpoint must fit.

    Slurm checks limits every 30 s and may signal a minute early, so that a longer time would waste computing time.
    """
    return min(120, time_s // 4)


def script(job: Submission) -> str:
    """The batch script, with comments for its reader."""
    minutes = -(-job.time_s // 60)
    check_sbatch_options(job.options, script_options(_head(_directives(replace(ARRAY, gpus=1)))), INSTEAD)
    head = _head([*_directives(job), *map(directive, job.options)])
    names = _ARRAY if job.array else _SINGLE
    seed = ' --seed "$SLURM_ARRAY_TASK_ID"' if job.array else ""
    return _SCRIPT.format(
        head=head,
        names=names.format(
            run=shlex.quote(job.run), log=f"{shlex.quote(job.logs)}/slurm-" if job.logs else "slurm-$SLURM_JOB_NAME-"
        ),
        python=shlex.quote(job.python),
        train=shlex.join(arguments(job.recipe)) + seed,
        srun=" ".join(SRUN_OPTIONS),
        minutes=minutes,
        warning=warning_s(minutes * 60),
    )


def _directives(job: Submission) -> list[str]:
    """The #SBATCH options that the script sets."""
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
    """An option of sbatch ("name" or "name=value") in the notation of an #SBATCH line."""
    name, equals, value = option.partition("=")
    return f"--{name}{equals}{quote(value)}" if equals else f"--{name}"


def quote(value: str) -> str:
    """A value in the notation of an #SBATCH line: in double quotes if it has a character that sbatch interprets.

    Raises:
        UserError: for a line break or another control character, which a directive cannot contain.
    """
    if any(not character.isprintable() for character in value):
        raise UserError(f"{value!r} has a line break or control character, which a Slurm directive cannot contain")
    if re.fullmatch(r"[\w%@.,:/=+-]*", value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def pattern(path: str) -> str:
    """A path in the notation of --output, where % begins a placeholder.

    Raises:
        UserError: for a backslash, with which Slurm expands no placeholder.
    """
    if "\\" in path:
        raise UserError(f"{path!r} has a backslash, which Slurm does not accept in --output: choose another folder")
    return path.replace("%", "%%")


def script_options(script: str) -> list[str]:
    """Names of the options that a batch script's #SBATCH lines set."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    return re.findall(r"(?<= )--([a-z-]+)", " ".join(lines))


def check_sbatch_options(
    options: Sequence[str], script: Sequence[str], instead: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse options of sbatch ("name" or "name=value") that the script sets, or that conflict with these.

    sbatch accepts any unambiguous prefix of an option's name, so that a prefix of such an option is refused too.

    Args:
        script: names of the options that the script sets.
        instead: for some of them, what the user can do.
    Raises:
        UserError: naming the option and what to use instead.
    """
    families = {name.partition("-")[0] for name in script if "-" in name}  # ntasks conflicts with ntasks-per-node
    for option in options:
        name = option.partition("=")[0].removeprefix("no-")
        family = name.partition("-")[0]
        conflicts = [known for known in (*script, *_CONFLICTS) if known.startswith(name)]
        conflicts += [known for known in script if family in families and known.partition("-")[0] == family]
        if conflicts:
            remedy = instead.get(conflicts[0], "remove it")
            raise UserError(f'sbatch option "{option}" conflicts with --{conflicts[0]} of the batch script: {remedy}')


_CONFLICTS = ("error", "chdir")
"""Options that change the log file, where the script finds the reason of a failure, or the working directory."""
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
# Trains in slices of {minutes} minutes. {warning} s before the end of a slice Slurm sends
# SIGUSR2 to the ranks. They finish their step, save a checkpoint and exit with
# code 75; then the job requeues itself, and the next slice continues. It ends
# when the training is complete, when slurm.total_lifetime_s of compute time is
# used, after more than slurm.max_restarts consecutive failures without a new
# checkpoint, or by scancel. slices.jsonl in the run folder has a row for each
# start and end of a slice; result.json has the totals.

# Python of the environment with distdl, on every node.
python={python}
{names}
train=({train} --out "$run" --resume auto)

slice() {{ "$python" -P -m distdl.cli slurm "$@" -- "${{train[@]}}"; }}
# These signals stop the ranks, not this script, which records their exit code.
trap : TERM USR2

# Time limit of this slice in seconds: 0 (none), except near the end of the
# total lifetime.
queued=$(squeue --noheader --job "$job" --format %V)
seconds=$(slice begin --queued "$queued") || exit

# One task per rank. Since Slurm 22.05 srun does not inherit the number of cores
# per task.
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
# Ranks accept only processes with this key, which srun passes to its tasks.
DISTDL_KEY=$(od -A n -N 32 -t x1 -v /dev/urandom | tr -d ' \\n')
export DISTDL_KEY
srun {srun} \\
    "$python" -P -m distdl.train "${{train[@]}}" --max-time "$seconds"
code=$?

# The state shows scancel: then the job must not be requeued.
state=$(squeue --noheader --job "$job" --format %T/%r)
slice end --code "$code" --state "$state" --log "$log" || exit "$code"
scontrol requeue "$job"
"""
_SINGLE = """\
job=$SLURM_JOB_ID
run={run}
log={log}$job.log"""
_ARRAY = """\
# The id of one task; the id of the job refers to all tasks.
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
folder={run}
run=$folder/seed-$SLURM_ARRAY_TASK_ID
log={log}$job.log"""


def parse_time(text: str) -> int:
    """Seconds of a time in Slurm's notation: MIN, MIN:SEC, H:MIN:SEC, D-H, D-H:MIN, D-H:MIN:SEC.

    Raises:
        UserError: for anything else, or less than a minute.
    """
    match = re.fullmatch(r"(?:([0-9]{1,9})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?", text)
    if not match:
        raise UserError(
            f'--time "{shortened(text)}" is not a time that Slurm accepts: write 40 (minutes), 2:00:00 or 1-12:00:00'
        )
    days, *rest = match.groups()
    given = [int(part) for part in rest if part is not None]
    units = (3600, 60, 1) if days is not None or len(given) == 3 else (60, 1)
    seconds = int(days or 0) * 86400 + sum(part * unit for part, unit in zip(given, units, strict=False))
    if seconds < 60:
        raise UserError(f'--time "{text}" is less than a minute, the smallest unit of Slurm')
    return seconds


def submit(job: Submission) -> str:
    """Submit the batch script, and save it in the run folder. Returns the job id.

    Raises:
        UserError: if the folder cannot be created, sbatch is missing, or sbatch fails; no folder is created then.
    """
    text, folder = script(job), Path(job.run)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the job starts, which writes its log there
        number = hand_over(text)
    except OSError as error:
        raise UserError(f"cannot create the run folder {folder}: {reason(error)}") from None
    except UserError:
        for path in missing:
            path.rmdir()
        raise
    write_atomic(folder / "job.sbatch", lambda sink: sink.write(text.encode()))
    return number


def hand_over(text: str) -> str:
    """Submit a batch script with sbatch. Returns the job id.

    Raises:
        UserError: if sbatch is missing or fails.
    """
    sbatch = shutil.which("sbatch")
    if not sbatch:
        raise UserError("sbatch was not found: submit from a login node, or print the script with --dry-run")
    # Variables such as SBATCH_ARRAY_INX take precedence over the lines of the script.
    overriding = tuple(
        f"SBATCH_{name.upper().replace('-', '_')}" for name in (*script_options(text), "array", "no-requeue")
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(overriding)}
    done = subprocess.run([sbatch, "--parsable"], input=text, env=environ, capture_output=True, text=True, check=False)
    job = re.match(r"\d+", done.stdout)
    if done.returncode or not job:  # --test-only and its like end with 0, and submit nothing
        messages = [line.strip().removeprefix("sbatch: error: ") for line in done.stderr.splitlines() if line.strip()]
        first = messages[0] if messages else "it printed no job id"
        raise UserError(f"sbatch did not submit the job: {first}")
    return job[0]

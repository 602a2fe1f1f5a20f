"""A study on Slurm: a job array whose jobs run the same command and share the study's folder."""

import re
import shlex
import sys

from distdl.core.errors import EXIT_DONE, EXIT_STOPPED, UserError
from distdl.core.files import write_atomic
from distdl.core.text import print_line, printable
from distdl.launchers.commands import SRUN_OPTIONS
from distdl.launchers.slurm import check_sbatch_options, directive, hand_over, pattern, quote, script_options
from distdl.studies.runner.folder import StudyFolder

MOST_JOBS = 16
"""Largest size of the job array without --array."""
WARNING_S = 120
"""Seconds between the signal to save and the time limit of the job: the longest time that distdl submit uses."""


def submit(folder: StudyFolder, options: str, *, jobs: int, gpus: str) -> int:
    """Submit the batch script and save it in the study's folder.

    Raises:
        UserError: for arguments that are not options of sbatch, if sbatch is not installed, or with its error.
    """
    text = script(folder, options, jobs=jobs, gpus=gpus)
    (folder.path / "slurm").mkdir(exist_ok=True)
    number = hand_over(text)
    write_atomic(folder.path / "job.sbatch", lambda sink: sink.write(text.encode()))
    print_line(f"submitted job {number}; the study's folder: {folder.path}")
    return EXIT_DONE


def script(folder: StudyFolder, options: str, *, jobs: int, gpus: str = "") -> str:
    """Return the batch script, with comments for its reader.

    Raises:
        UserError: for arguments that are not options of sbatch, or for GPU numbers, which Slurm assigns.
    """
    if gpus not in ("", "all"):
        raise UserError(
            "--gpus with --slurm: Slurm assigns the GPUs of a job; write --gpus all, and --slurm '--gpus=4'"
        )
    try:
        arguments = shlex.split(options)
    except ValueError as error:
        raise UserError(f"--slurm {options!r}: {error}") from None
    odd = [argument for argument in arguments if not re.fullmatch(r"--[a-z][a-z-]*(=\S+)?", argument)]
    if odd:
        raise UserError(f'--slurm: "{printable(odd[0], 80)}" is not an option of sbatch: write --partition=gpu')
    options_given = [argument.removeprefix("--") for argument in arguments]
    check_sbatch_options(options_given, script_options(_SCRIPT))
    last = min(len(folder.trials), MOST_JOBS) - 1
    given = any(argument.startswith("--array") for argument in arguments)
    directives = [*map(directive, options_given), *([] if given else [f"--array=0-{last}"])]
    run = ["-P", "-m", "distdl.cli", "study", "run", folder.study.name, "--out", str(folder.path), "--leave"]
    run += [*(["--jobs", str(jobs)] if jobs else []), *(["--gpus", gpus] if gpus else [])]
    return _SCRIPT.format(
        name=quote(f"study-{folder.study.name}"),
        log=quote(f"{pattern(str(folder.path))}/slurm/%A_%a.log"),
        warning=WARNING_S,
        directives="\n".join(f"#SBATCH {argument}" for argument in directives),
        python=shlex.quote(sys.executable),
        run=shlex.join(run),
        srun=" ".join(SRUN_OPTIONS),
        stopped=EXIT_STOPPED,
    )


_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name} --nodes=1 --ntasks=1
#SBATCH --requeue --open-mode=append --output={log} --signal=USR2@{warning}
{directives}
#
# Each job of the array runs trials of the study until none can be started. {warning} s before the time limit of a job
# Slurm sends SIGUSR2; its trials then save and end, and the job is queued again to resume them.

python={python}  # from the environment in which distdl is installed, on every node
trap : TERM USR2  # signals that stop the trials must not stop this script
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
srun --ntasks=1 {srun} "$python" {run}
code=$?
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
# A job that scancel has canceled is COMPLETING by now and must not be queued again.
state=$(squeue --noheader --job "$job" --format %T/%r)
if [ $code -eq {stopped} ] && [[ $state = RUNNING/* || $state = */TimeLimit ]]; then
    scontrol requeue "$job"
fi
exit $code
"""

"""A study on Slurm: an array of jobs that each run the same command and share its folder."""

import re
import shlex
import sys

from distdl.core.errors import EXIT_DONE, EXIT_STOPPED, UserError
from distdl.core.files import write_atomic
from distdl.launchers.slurm import check_options, directive, hand_over, pattern, quote, script_options
from distdl.launchers.srun import SRUN_OPTIONS
from distdl.studies.runner.folder import StudyFolder

MOST_JOBS = 16
"""Of an array, unless --array says another number."""
WARNING_S = 120
"""How long before a job's limit its trials are told to save: distdl submit's longest."""


def submit(folder: StudyFolder, options: str, *, jobs: int, gpus: str) -> int:
    """Hand the batch script to sbatch and keep it in the study's folder.

    Raises:
        UserError: for words that are no options of sbatch, without sbatch, or with what sbatch says against it.
    """
    text = script(folder, options, jobs=jobs, gpus=gpus)
    (folder.path / "slurm").mkdir(exist_ok=True)
    number = hand_over(text)
    write_atomic(folder.path / "job.sbatch", lambda sink: sink.write(text.encode()))
    print(f"submitted job {number}; the study's folder: {folder.path}")
    return EXIT_DONE


def script(folder: StudyFolder, options: str, *, jobs: int, gpus: str = "") -> str:
    """The batch script, with comments for the person who reads it.

    Raises:
        UserError: for words that are no options of sbatch, or GPUs by number, which Slurm gives out itself.
    """
    if gpus not in ("", "all"):
        raise UserError("--gpus with --slurm: Slurm says which a job has; write --gpus all, and --slurm '--gpus=4'")
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UserError(f"--slurm {options!r}: {error}") from None
    odd = [word for word in words if not re.fullmatch(r"--[a-z][a-z-]*(=\S+)?", word)]
    if odd:
        raise UserError(f'--slurm: "{odd[0]}" is not an option of sbatch: write --partition=gpu')
    options_given = [word.removeprefix("--") for word in words]
    check_options(options_given, script_options(_SCRIPT))
    last = min(len(folder.trials), MOST_JOBS) - 1
    given = any(word.startswith("--array") for word in words)
    directives = [*map(directive, options_given), *([] if given else [f"--array=0-{last}"])]
    run = ["-m", "distdl.cli", "study", "run", folder.study.name, "--out", str(folder.path), "--leave"]
    run += [*(["--jobs", str(jobs)] if jobs else []), *(["--gpus", gpus] if gpus else [])]
    return _SCRIPT.format(
        name=folder.study.name,
        log=quote(f"{pattern(str(folder.path))}/slurm/%A_%a.log"),
        warning=WARNING_S,
        directives="\n".join(f"#SBATCH {word}" for word in directives),
        python=shlex.quote(sys.executable),
        run=shlex.join(run),
        srun=" ".join(SRUN_OPTIONS),
        stopped=EXIT_STOPPED,
    )


_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=study-{name} --nodes=1 --ntasks=1
#SBATCH --requeue --open-mode=append --output={log} --signal=USR2@{warning}
{directives}
#
# Each job of the array does trials of the study until none is left to begin. {warning} s before a job's limit Slurm
# sends SIGUSR2; its trials then save and end, and the job queues itself again to go on with them.

python={python}  # of the environment that distdl is installed in, on every node
trap : TERM USR2  # what stops the trials must not stop this script
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
srun --ntasks=1 {srun} "$python" {run}
code=$?
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
# Cancelled by scancel it is COMPLETING by now, and must not be queued again.
state=$(squeue --noheader --job "$job" --format %T/%r)
if [ $code -eq {stopped} ] && [[ $state = RUNNING/* || $state = */TimeLimit ]]; then
    scontrol requeue "$job"
fi
exit $code
"""

"""`distdl submit -- ARGUMENTS`: a training as a Slurm job."""

import re
import sys
from typing import Annotated

import tyro

from distdl.cli.arguments import OtherNames
from distdl.cli.launch import RANKS
from distdl.core.config import Count, FilePath, Positive
from distdl.core.errors import UserError, shortened
from distdl.core.text import print_line

_INDICES = r"[0-9]{1,9}(-[0-9]{1,9})?(:[0-9]{1,9})?"
ARRAY = re.compile(f"{_INDICES}(,{_INDICES})*(%[0-9]{{1,9}})?")
"""Indices of an array in Slurm's notation."""


def submit(
    arguments: tyro.conf.Positional[tuple[str, ...]],
    *,
    profile: str = "digits",
    nodes: Annotated[Positive, OtherNames.of("n", "nnodes", "hosts")] = 1,
    gpus: Annotated[Count, OtherNames.of("gpus-per-node", "gres", "g", "num-gpus")] = 0,
    nproc: Annotated[Count, RANKS] = 0,
    time: str = "",
    array: str = "",
    sbatch: tuple[str, ...] = (),
    out: FilePath | None = None,
    dry_run: bool = False,
) -> None:
    """Train as a Slurm job that requeues itself until it is done. --dry-run only prints the batch script.

    Args:
        arguments: further arguments of distdl train, after `--`.
        profile: profile of the training, as for distdl train.
        nodes: number of nodes.
        gpus: GPUs on each node.
        nproc: ranks on each node; 0: one per GPU, or one on a node without GPUs.
        time: length of a slice in Slurm's notation (40, 2:00:00, 1-12); default: slurm.slice_s of the profile.
        array: indices in Slurm's notation (0-4, or 0-9%2): one run per index, which is its seed.
        sbatch: further options of sbatch: partition=gpu account=me cpus-per-task=8.
        out: run folder, on a file system that all nodes share; in an array, the folder of the run folders.
        dry_run: only print the script.
    """
    from distdl.cli.recipe import recipe
    from distdl.core.profiles import resolve
    from distdl.core.run_files import default_path
    from distdl.launchers import slurm

    _refuse_taken(arguments, array)
    odd = [option for option in sbatch if not re.fullmatch(r"[a-z][a-z-]*(=\S+)?", option)]
    if odd:
        raise UserError(f'--sbatch "{odd[0]}" is not an option of sbatch: write partition=gpu')
    if array and not ARRAY.fullmatch(array):
        raise UserError(f'--array "{shortened(array)}" is not a list of indices: write 0-4, 0,2,5 or 0-9%2')
    training = recipe(("--profile", profile, *arguments), prog="distdl submit ... --")
    config = resolve(training, strategy="ddp")
    if config.strategy == "horovod":
        raise UserError("srun does not start Horovod: use --strategy ddp, or run launch/horovodrun.sh in an allocation")
    run = str(out or default_path(config.name))
    job = slurm.Submission(
        recipe=training,
        run=run,
        logs=run,
        name=config.name,
        nodes=nodes,
        gpus=gpus,
        nproc=nproc or max(gpus, 1),
        time_s=slurm.parse_time(time) if time else max(int(config.slurm.slice_s), 60),
        array=array,
        options=sbatch,
        python=sys.executable,
    )
    if dry_run:
        print(slurm.script(job), end="")
        return
    print_line(f"submitted job {slurm.submit(job)}; its run folder: {run}")


def _refuse_taken(arguments: tuple[str, ...], array: str) -> None:
    taken = {"--out": "give it before --", "--resume": "slices always resume", "--profile": "give it before --"}
    if array:
        taken["--seed"] = "it is the index of the array"
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in taken:
            raise UserError(f"{option} cannot be given after --: {taken[option]}")

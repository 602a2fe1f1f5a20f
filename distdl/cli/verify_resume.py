"""The verb `distdl verify-resume`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from distdl.cli.arguments import OtherNames
from distdl.core.config import Count, FilePath, Positive, Seed
from distdl.core.console import PlainConsole
from distdl.core.errors import EXIT_DONE, EXIT_FAILED, UserError, reading
from distdl.core.text import print_line

if TYPE_CHECKING:
    from rich.table import Table

    from distdl.verify.proof import Kill

CERTIFICATE = "verify-resume.json"
TAKEN = ("--out", "--resume", "--profile", "--max-steps", "--max_steps")
"""Options of distdl.train that the verb sets itself."""


def verify_resume(
    arguments: tyro.conf.Positional[tuple[str, ...]],
    *,
    profile: str = "digits",
    ranks: Annotated[Positive, OtherNames.of("n", "np", "nproc", "nproc-per-node", "ntasks", "gpus")] = 2,
    kills: Count = 3,
    other_ranks: Count = 0,
    steps: Annotated[int, Field(ge=2, lt=2**63)] = 60,
    seed: Seed = 0,
    out: FilePath | None = None,
) -> int:
    """Kill a training at random moments, resume it, and compare it with the same training without a kill.

    For each kill it trains, ends all processes or one rank by SIGKILL at a random moment, resumes, and compares
    weights, optimizer state and the samples of each epoch with the training that was not killed: bit for bit. With
    --other-ranks it resumes once more on that number of ranks, with the same global batch. Sums are then rounded
    differently, so that only the samples must be the same. Exit code 1: there is a difference.

    Args:
        arguments: further arguments of distdl train, after `--`.
        profile: profile of the training, as for distdl train.
        ranks: processes that train.
        kills: number of kills.
        other_ranks: resume once more on this number of ranks; 0: do not.
        steps: length of the trainings, at least 2: a kill is between the first step and the last.
        seed: seed of the random moments.
        out: folder of the trainings and of the certificate; default: runs/verify-NAME-TIME.
    """
    from distdl.cli.recipe import recipe
    from distdl.core.files import write_json
    from distdl.core.profiles import resolve
    from distdl.core.run_files import default_path
    from distdl.launchers import job as jobs
    from distdl.verify.proof import Proof, prove

    _check(arguments, kills + other_ranks)
    training = recipe(("--profile", profile, *arguments), prog="distdl verify-resume ... --")
    config = resolve(training, strategy="single" if ranks == 1 else "ddp")
    folder = (out or default_path(f"verify-{config.name}")).resolve()
    with reading(folder, "a folder"):
        occupied = folder.exists() and any(folder.iterdir())
    if occupied:
        raise UserError(f"{folder} is not empty: give another --out")
    proof = Proof(
        config=config,
        recipe=training,
        folder=folder,
        ranks=ranks,
        kills=kills,
        other_ranks=other_ranks,
        steps=steps,
        seed=seed,
    )
    console, count = PlainConsole(), len(proof.resumed_on)
    print_line(f"{config.name}: {steps} steps without a kill, then {count} kill{'s' * (count != 1)}")
    rows = []
    for kill in prove(proof):
        rows.append(kill)
        print_line(f"kill {len(rows)}: after step {kill.killed_after}, {kill.verdict}")
    console.print(table(rows))
    exact = all(kill.holds for kill in rows)
    certificate = {"arguments": jobs.arguments(training), "ranks": ranks, "steps": steps, "seed": seed, "exact": exact}
    write_json(
        folder / CERTIFICATE, certificate | {"kills": [asdict(kill) | {"verdict": kill.verdict} for kill in rows]}
    )
    print_line(f"certificate: {folder / CERTIFICATE}")
    return EXIT_DONE if exact else EXIT_FAILED


def _check(arguments: tuple[str, ...], resumes: int) -> None:
    if not resumes:
        raise UserError("nothing to do: give --kills or --other-ranks, at least 1")
    for argument in arguments:
        if argument.partition("=")[0] in TAKEN:
            raise UserError(f"{argument.partition('=')[0]} cannot be given after --: verify-resume sets it itself")


def table(kills: "list[Kill]") -> "Table":
    """One row per kill; a difference is the largest absolute one of a value."""
    from rich.box import SIMPLE
    from rich.table import Table

    names = ("kill", "killed", "step", "from", "ranks", "weights", "other", "samples", "result")
    rows = Table(*names, box=SIMPLE, padding=(0, 1, 0, 0))
    for number, kill in enumerate(kills, start=1):
        rows.add_row(
            str(number),
            kill.victims,
            str(kill.killed_after),
            str(kill.resumed_from),
            f"{kill.ranks}" if kill.ranks == kill.resumed_on else f"{kill.ranks} to {kill.resumed_on}",
            _written(kill.model),
            _written(kill.optimizer),
            "same" if kill.samples else "DIFFERENT",
            kill.verdict,
        )
    return rows


def _written(difference: float) -> str:
    return "same" if difference == 0 else f"{difference:.1e}"

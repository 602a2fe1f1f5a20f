"""Options of a training before `--`: the corrected command."""

import shlex

import pytest

from distdl.cli.after_dashes import misplaced

OWN = {"--nproc": True, "--seed": True, "--dry-run": False, "--sbatch": True}
TRAINING = {"--epochs", "--seed", "--optim.betas", "--data.drop-last"}
MOVED = {
    "--epochs 3": "-- --epochs 3",
    "--epochs=3 --nproc=2 -- --name x": "--nproc=2 -- --epochs=3 --name x",
    "--dry-run --optim.betas 0.9 0.99 --nproc 2": "--dry-run --nproc 2 -- --optim.betas 0.9 0.99",
    "--data.no-drop_last --sbatch a=1 b=2 --": "--sbatch a=1 b=2 -- --data.no-drop_last",
    "--epochs 3 -- --nproc 2 --seed 1 --name x --dry-run": "--nproc 2 --dry-run -- --epochs 3 --seed 1 --name x",
    "--epochs 3 --seed 1 -- --seed 2": "--seed 1 -- --epochs 3 --seed 2",
    "--epochs '3 4' --dry_run digits": "--dry_run -- --epochs '3 4' digits",
}


@pytest.mark.parametrize("argv", MOVED)
def test_all_that_is_not_of_the_command_is_moved(argv: str) -> None:
    option = next(part for part in argv.split() if part.startswith(("--epochs", "--optim", "--data")))
    typed = shlex.split(argv)
    message = misplaced(option.partition("=")[0], TRAINING, typed, OWN, "run")
    assert message.endswith(f" is an option of the training, which follows after --: run {MOVED[argv]}")


def test_an_option_of_neither_is_left_to_others() -> None:
    assert misplaced("--epoch", TRAINING, ["--epoch", "3"], OWN, "run") == ""

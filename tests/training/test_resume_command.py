"""The suggested resume command: the command that started the training, with --out and --resume auto."""

from pathlib import Path

import pytest

from distdl.training.resume_command import render

TORCHRUN = ["/venv/bin/python", "/venv/bin/torchrun", "--nproc_per_node=2", "-m", "distdl.train", "--epochs", "3"]
AGENT = ["/venv/bin/python", "-P", "-m", "distdl.launchers.agent", "--nproc-per-node=2", "-m", "distdl.train"]
CASES = {
    "module": (["/x/distdl/train.py", "--epochs", "3"], [], {}, "python -m distdl.train --epochs 3"),
    "command": (["/venv/bin/distdl", "train", "--name", "my run"], [], {}, "distdl train --name 'my run'"),
    "former options": (
        ["distdl", "train", "--out", "a", "--resume=b", "--epochs", "3"],
        [],
        {},
        "distdl train --epochs 3",
    ),
    "torchrun": (["train.py"], [["sh"], TORCHRUN], {}, "torchrun --nproc_per_node=2 -m distdl.train --epochs 3"),
    "python -m distdl.cli": (["/x/distdl/cli/__main__.py", "train"], [], {}, "python -m distdl.cli train"),
    "distdl launch": (["/venv/bin/distdl", "launch", "--nproc", "2"], [], {}, "distdl launch --nproc 2 --"),
    "the agent of distdl": (
        ["train.py"],
        [AGENT],
        {"WORLD_SIZE": "2"},
        "python -P -m distdl.launchers.agent --nproc-per-node=2 -m distdl.train",
    ),
    "unknown launcher": (["train.py"], [["slurmstepd"]], {"WORLD_SIZE": "4"}, "the same command, with"),
    "horovodrun on another host": (["train.py"], [["sshd"]], {"HOROVOD_SIZE": "4"}, "the same command, with"),
}


LAUNCH = {
    "distdl launch": (
        [TORCHRUN, ["/venv/bin/python", "/venv/bin/distdl", "launch", "--nproc", "2", "--", "--epochs", "3"]],
        {"WORLD_SIZE": "2"},
    ),
    "python -m distdl.cli launch": ([["/venv/bin/python", "-m", "distdl.cli", "launch", "--", "--out", "a"]], {}),
    "another host": ([AGENT, ["python", "-P", "-m", "distdl.launchers.remote", *AGENT], ["sshd"]], {"WORLD_SIZE": "2"}),
}


@pytest.mark.parametrize("name", LAUNCH)
def test_a_rank_of_a_launch_leaves_the_command_to_the_launch(name: str) -> None:
    parents, environ = LAUNCH[name]
    assert render(["train.py", "--epochs", "3"], parents, environ, Path("run")) == ""


@pytest.mark.parametrize("name", CASES)
def test_the_resume_command_is_that_of_the_launcher(name: str) -> None:
    argv, parents, environ, command = CASES[name]
    assert render(argv, parents, environ, Path("/runs/a b")) == f"{command} --out '/runs/a b' --resume auto"

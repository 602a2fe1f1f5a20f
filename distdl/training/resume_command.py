"""The command that resumes the training of this process."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from distdl.runtime.launch_env import has_launcher, is_part_of_job

LAUNCHERS = ("torchrun", "horovodrun", "mpirun", "mpiexec", "deepspeed")
LAUNCHER_MODULES = ("torch.distributed.run", "torch.distributed.launch", "distdl.launchers.agent")
REMOTE = "distdl.launchers.remote"
"""Module that `distdl launch` starts on other hosts."""


def resume_command(out: Path) -> str:
    """A shell command that resumes the run in `out`: the one that started it, with --out and --resume auto.

    Empty for a rank of `distdl launch`, which prints its own command after all output of its launcher.
    """
    return render(sys.argv, ancestors() if has_launcher() else [], os.environ, out)


def ancestors() -> list[list[str]]:
    """Command lines of this process's ancestors, the nearest first; those that cannot be read are left out."""
    import psutil

    lines = []
    for process in psutil.Process().parents():
        try:
            lines.append(process.cmdline())
        except psutil.Error:
            continue
    return lines


def render(argv: Sequence[str], parents: Sequence[Sequence[str]], environ: Mapping[str, str], out: Path) -> str:
    """Return the command, from the argv of this process and of the launchers above it; "" under `distdl launch`.

    Args:
        argv: of this process, with the program first.
        parents: command lines of its ancestors, the nearest first.
        environ: environment variables of this process. If they show several ranks but no launcher is found, the result
            is not a complete command: a rank cannot be started alone.
        out: the run folder.
    """
    if any(_own_launch(line) or REMOTE in line for line in parents):
        return ""
    launcher = next((line for line in parents if _is_launcher(line)), None)
    if launcher is not None:
        return shlex.join(_resumed(_shortened(launcher), out))
    if is_part_of_job(environ):
        return f"the same command, with {shlex.join(_resumed([], out))}"
    program, *rest = argv
    name = Path(program).name
    if name == "__main__.py":
        command = ["python", "-m", "distdl.cli", *rest]
    else:
        command = ["python", "-m", "distdl.train", *rest] if name in ("train.py", "-c", "-m") else [name, *rest]
    return shlex.join(_resumed(_own_launch(command) or command, out))


def _own_launch(line: Sequence[str]) -> list[str]:
    """`distdl launch ... --` of a command line, to which arguments of the training can be added; else empty."""
    for place, word in enumerate(line[:3]):
        program = {"distdl": ["distdl"], "distdl.cli": ["python", "-m", "distdl.cli"]}.get(Path(word).name)
        if program and line[place + 1 : place + 2] == ["launch"]:
            return [*program, *line[place + 1 :], *([] if "--" in line else ["--"])]
    return []


def _is_launcher(line: Sequence[str]) -> bool:
    return any(Path(word).name in LAUNCHERS for word in line[:2]) or any(name in line[:4] for name in LAUNCHER_MODULES)


def _shortened(line: Sequence[str]) -> list[str]:
    """A launcher's command line without the interpreter that runs its script."""
    if len(line) > 1 and Path(line[1]).name in LAUNCHERS:
        line = line[1:]
    return [Path(line[0]).name, *line[1:]]


def _resumed(argv: Sequence[str], out: Path) -> list[str]:
    others, skip = [], False
    for argument in argv:
        if skip or argument in ("--out", "--resume"):
            skip = not skip
        elif not argument.startswith(("--out=", "--resume=")):
            others.append(argument)
    return [*others, "--out", str(out), "--resume", "auto"]

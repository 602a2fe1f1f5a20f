"""Kill a process just before its N-th file operation: rename, removal, new folder or fsync."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distdl.training import checkpoint

OPERATIONS = ((os, "rename"), (os, "replace"), (os, "rmdir"), (os, "unlink"), (os, "mkdir"))


def kill_at(number: int, saved: Path) -> None:
    """Prepare the kill of this process. The step of each published checkpoint is appended to `saved`."""
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return operation

    def reported(publish: Callable[..., Any]) -> Callable[..., Any]:
        def published(self: Any, staging: Path) -> None:
            publish(self, staging)
            with saved.open("a") as sink:
                sink.write(f"{int(staging.name.split('-')[1])}\n")

        return published

    for module, name in (*OPERATIONS, (shutil, "rmtree")):
        setattr(module, name, counted(getattr(module, name)))
    os.fsync = counted(lambda descriptor: None)  # a killed process loses nothing that it has written
    checkpoint.Checkpoints._publish = reported(checkpoint.Checkpoints._publish)


def train_until_killed(number: int, saved: Path, argv: list[str]) -> None:
    """Run `distdl.train ARGV` in this process, killed at its N-th file operation."""
    from distdl.cli.train import main

    kill_at(number, saved)
    raise SystemExit(main(argv))

"""Replacements of `main` for ranks: they record collectives, or start with different weights or settings per rank.

Each function runs in a rank instead of `distdl.cli.train.main` and writes its records next to the run folder.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distdl.cli import train
from distdl.training.step import TrainStep
from distdl.training.trainer import Trainer

COLLECTIVES = ("all_reduce", "reduce", "broadcast", "all_gather_into_tensor", "reduce_scatter_tensor", "all_gather")


def rank() -> int:
    return int(os.environ.get("RANK") or os.environ["HOROVOD_RANK"])


def record(argv: list[str], kind: str, value: Any) -> None:
    out = Path(argv[argv.index("--out") + 1])
    out.with_name(f"{out.name}-{kind}-{rank()}.json").write_text(json.dumps(value))


def counting(argv: list[str]) -> int:
    """Record the collectives of each step, by function name, in RUN-counts-RANK.json."""
    calls: list[str] = []
    _record_collectives(calls)
    steps: list[list[str]] = []
    plain_step = TrainStep.run

    def step(self: Any, batch: Any) -> torch.Tensor:
        calls.clear()
        loss = plain_step(self, batch)
        steps.append(list(calls))
        return loss

    TrainStep.run = step
    code = train.main(argv)
    record(argv, "counts", steps)
    return code


def _record_collectives(calls: list[str]) -> None:
    import torch.distributed as dist

    from distdl.strategies.paramserver.exchange import Exchange

    # The entry points of c10d: DDP's hooks, DeepSpeed and the waits of shared memory all call them.
    for name in COLLECTIVES:
        recorded = _recorded(getattr(dist, name), calls)
        setattr(dist, name, recorded)
        setattr(dist.distributed_c10d, name, recorded)
    Exchange.push = _recorded(Exchange.push, calls)
    if "HOROVOD_RANK" in os.environ:
        import horovod.torch.optimizer as optimizer

        optimizer.allreduce_async_ = _recorded(optimizer.allreduce_async_, calls)


def _recorded(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(function.__name__)
        return function(*args, **kwargs)

    return call


def other_weights(argv: list[str]) -> int:
    """Start from different weights and buffers on each rank, and record their digests before and after training."""
    from distdl.training import building

    build, plain_fit, digests = building.build, Trainer.fit, []

    def digest(model: torch.nn.Module) -> str:
        return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in model.state_dict().values())).hexdigest()

    def build_other(*args: Any, **kwargs: Any) -> torch.nn.Module:
        model = build(*args, **kwargs)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(rank())
        digests.append(digest(model))
        return model

    def fit(self: Any) -> str:
        status = plain_fit(self)
        digests.append(digest(self.model))
        return status

    building.build, Trainer.fit = build_other, fit
    code = train.main(argv)
    record(argv, "digests", digests)
    return code


def other_settings(argv: list[str]) -> int:
    """Train rank 1 with another learning rate, seed and run folder."""
    if rank() == 1:
        argv = [*argv, "--optim.lr", "5e-5", "--seed", "7", "--out", "elsewhere", "--data.workers", "3"]
    return train.main(argv)


def exploding(argv: list[str]) -> int:
    """Make every gradient overflow while the loss stays finite, as with a network that fp16 cannot train."""
    plain_build = Trainer._build_model

    def build_model(self: Any) -> None:
        plain_build(self)
        for parameter in self.model.parameters():
            parameter.register_hook(lambda gradient: gradient * float("inf"))

    Trainer._build_model = build_model
    return train.main(argv)


def small_files(argv: list[str]) -> int:
    """Limit the files of rank 1 to 20 kB (RLIMIT_FSIZE)."""
    if rank() == 1:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    return train.main(argv)

"""A training whose ranks record how many collectives each of their steps made, and what they started from.

The counters are the libraries' own calls: every collective of torch.distributed, every all-reduce of Horovod, every
push to a parameter server.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

COLLECTIVES = ("all_reduce", "reduce", "broadcast", "all_gather_into_tensor", "reduce_scatter_tensor", "all_gather")


def main(argv: list[str]) -> int:
    """`distdl.train` with ARGV; each rank writes the counts of its steps to RUN-counts-RANK.json."""
    from distdl import train, trainer

    calls: list[str] = []
    _count(calls)
    steps: list[list[str]] = []
    plain_step = trainer.Trainer._step

    def step(self: Any, batch: Any) -> Any:
        calls.clear()
        loss = plain_step(self, batch)
        steps.append(list(calls))
        return loss

    trainer.Trainer._step = step
    code = train.main(argv)
    out = Path(argv[argv.index("--out") + 1])
    rank = os.environ.get("RANK") or os.environ["HOROVOD_RANK"]
    out.with_name(f"{out.name}-counts-{rank}.json").write_text(json.dumps(steps))
    return code


def _count(calls: list[str]) -> None:
    import torch.distributed as dist

    from distdl.strategies.paramserver.exchange import Exchange

    # Where Python enters c10d: DDP's hooks, DeepSpeed and the shared memory's waits all go through here.
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
    """`distdl.train` whose ranks each draw other initial weights, as on processors of different generations."""
    from distdl import train
    from distdl.models import zoo

    build = zoo.build
    rank = int(os.environ.get("RANK") or os.environ["HOROVOD_RANK"])

    def build_other(*args: Any, **kwargs: Any) -> torch.nn.Module:
        model = build(*args, **kwargs)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(rank)
        return model

    zoo.build = build_other
    return train.main(argv)

"""DDP's communication hooks: the exposed part of the exchange, and averaging of all buckets together."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from distdl.strategies import shared_memory as shared
from distdl.strategies.comm_hooks import AllAtOnce, ExposedExchange
from distdl.telemetry.clock import Clock
from rank_threads import run_ranks
from thread_strategies import ddp_of


class Moments(Clock):
    """A clock that counts calls instead of seconds, and records added times."""

    def __init__(self) -> None:
        super().__init__()
        self.moment, self.added = 0, []

    def now(self) -> int:
        self.moment += 1
        return self.moment

    def add_since(self, phase: str, moment: int, out_of: str | None = None) -> None:
        self.added.append((phase, moment, out_of))


def network(layers: int = 3) -> nn.Module:
    model = nn.Sequential(*(nn.Linear(600, 600, bias=False) for _ in range(layers)))
    for layer in model:
        nn.init.eye_(layer.weight)
    return model


def in_buckets(model: nn.Module) -> DistributedDataParallel:
    """Wrap the network with one bucket per layer, because each layer exceeds the bucket size."""
    return DistributedDataParallel(model, bucket_cap_mb=1, gradient_as_bucket_view=True)


@pytest.mark.world_size(2)
def test_the_exchange_is_exposed_from_the_last_bucket_to_the_end_of_backward(in_ranks: Callable) -> None:
    def exposed(rank: int) -> tuple[list[bool], list[tuple[str, int, str | None]]]:
        clock, is_last, model = Moments(), [], in_buckets(network())
        exchange = ExposedExchange(clock)

        def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
            is_last.append(bucket.is_last())
            clock.now()  # advances the clock during the exchange
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        exchange.end()
        model.register_comm_hook(None, exchange.around(hook))
        for _ in range(2):
            model(torch.ones(1, 600)).sum().backward()
            exchange.end()
            exchange.end()  # the second call adds nothing
        return is_last, clock.added

    for is_last, added in in_ranks(exposed):
        buckets = len(is_last) // 2
        assert buckets > 1 and is_last.count(True) == 2
        assert [phase[0::2] for phase in added] == [("exchange", "backward")] * 2
        # In each backward: a clock call per bucket, and one when the last bucket is ready, before it is exchanged.
        assert [moment for _, moment, _ in added] == [is_last.index(True) + 1, len(is_last) + 1]


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_buckets_are_averaged_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    monkeypatch.setattr(shared, "FOLDER", tmp_path)

    def averaged(rank: int) -> tuple[list[int], list[torch.Tensor]]:
        strategy, model = ddp_of(rank, ranks), network()
        memory = shared.join(strategy, shared.bytes_for([*model.parameters()]))
        assert memory is not None
        calls, average = [], memory.average
        memory.average = lambda tensors: calls.append(len(tensors)) or average(tensors)
        parallel = in_buckets(model)
        parallel.register_comm_hook(None, ExposedExchange(Clock()).around(AllAtOnce(memory)))
        for _ in range(3):
            parallel.zero_grad()
            parallel(torch.full((1, 600), rank + 1.0)).sum().backward()
        return calls, [parameter.grad.clone() for parameter in model.parameters()]

    mean = sum(range(1, ranks + 1)) / ranks
    for calls, gradients in run_ranks(ranks, averaged):
        assert len(calls) == 3 and min(calls[1:]) > 1
        for gradient in gradients:
            torch.testing.assert_close(gradient, torch.full((600, 600), mean))
    assert Counter(tmp_path.iterdir()) == {}

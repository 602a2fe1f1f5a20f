"""DistributedDataParallel: equality with one rank for each transport, shards, and setup."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from distdl.core.config import ComputeConfig, Config, DDPConfig, OptimConfig
from distdl.runtime.tensors import read_tensors
from distdl.runtime.world import World
from distdl.strategies import ddp as module
from distdl.strategies import shared_memory as shared
from distdl.strategies.base import Strategy
from distdl.strategies.ddp import DDP
from distdl.strategies.single import Single
from distdl.telemetry.clock import Clock
from jobs import free_port
from rank_threads import run_ranks
from small_steps import IMAGES, max_difference, network, prepared, trained
from thread_strategies import ddp_of

SGD = OptimConfig(lr=0.1, momentum=0.9)
OTHER_HOSTS = {"local_size": 1, "local_rank": 0}
"""Each rank is on a different host."""


def run_ddp(ranks: int, compress: str = "none", places: dict[str, int] = {}, **more: Any) -> list[dict[str, Any]]:  # noqa: B006
    config = Config(**{"ddp": DDPConfig(compress=compress), "optim": SGD, **more})

    def work(rank: int) -> dict[str, Any]:
        strategy = ddp_of(rank, ranks, config, **places)
        return {"weights": trained(strategy), **strategy.report()}

    return run_ranks(ranks, work)


@pytest.fixture(scope="module")
def one_rank() -> dict[str, torch.Tensor]:
    return trained(Single(Config(optim=SGD)), parts=1)


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use shared memory in the test's folder."""
    monkeypatch.setattr(shared, "FOLDER", tmp_path)


@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
@pytest.mark.parametrize(
    ("ranks", "places", "transport"),
    [
        (1, {}, "gloo"),
        (2, {}, "shared memory"),
        (3, {}, "shared memory"),
        (3, OTHER_HOSTS, "gloo"),
        (2, OTHER_HOSTS, "gloo"),
    ],
)
def test_several_ranks_equal_one_rank_with_the_same_global_batch(
    ranks: int, places: dict[str, int], transport: str, clip_norm: float
) -> None:
    optim = replace(SGD, clip_norm=clip_norm)
    expected = trained(Single(Config(optim=optim)), parts=1)
    results = run_ddp(ranks, places=places, optim=optim)
    assert [result["transport"] for result in results] == [transport] * ranks
    for result in results:
        assert max_difference(result["weights"], results[0]["weights"]) == 0
        assert max_difference(result["weights"], expected) < 1e-6


class Exchanges(Clock):
    """A clock that counts exchanges."""

    count = 0

    def add_since(self, phase: str, moment: object, out_of: str | None = None) -> None:
        self.count += phase == "exchange"


@pytest.mark.world_size(2)
def test_gradients_are_exchanged_only_in_the_last_micro_batch(in_ranks: Callable) -> None:
    def exchanges(rank: int) -> list[int]:
        strategy, model, clock = ddp_of(rank, 2, Config(optim=SGD)), network(), Exchanges()
        forward = prepared(strategy, model)
        strategy._exposed._clock = clock
        counts = []
        for last in (False, False, True, False, True):
            with strategy.micro_batch(last=last):
                strategy.backward(forward(IMAGES).sum())
            counts.append(clock.count)
        return counts

    assert in_ranks(exchanges) == [[0, 0, 1, 1, 2]] * 2


@pytest.mark.parametrize(("places", "parts"), [({}, 1), (OTHER_HOSTS, 1), (OTHER_HOSTS, 3)])
def test_a_slow_exchange_is_measured_as_exchange(
    monkeypatch: pytest.MonkeyPatch, places: dict[str, int], parts: int
) -> None:
    """The last gradient of each micro-batch takes 2 s of a simulated clock, the exchange 5 s, the optimizer 3 s."""
    now = 0.0

    def delayed(function: Callable, seconds: float) -> Callable:
        def call(*arguments: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments)

        return call

    def step(rank: int) -> dict[str, float]:
        strategy, model = ddp_of(rank, 1, Config(optim=SGD), **places), network()
        forward = prepared(strategy, model)
        model[0].bias.register_hook(delayed(lambda gradient: None, 2))
        strategy.optimizer.step = delayed(strategy.optimizer.step, 3)
        for part in range(parts):
            with strategy.micro_batch(last=part == parts - 1), strategy.clock("backward"):
                strategy.backward(forward(IMAGES).sum())
        with strategy.clock("update"):
            strategy.step()
        return {phase: seconds for phase, seconds in strategy.clock.read().items() if seconds}

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(default_hooks, "allreduce_hook", delayed(default_hooks.allreduce_hook, 5))
    assert run_ranks(1, step) == [{"backward": 2 * parts, "exchange": 5, "update": 3}]


def test_compression_changes_the_weights_by_rounding_only(one_rank: dict[str, torch.Tensor]) -> None:
    """bfloat16 has 8 bits, float16 has 11."""
    errors = {}
    for compress in ("fp16", "bf16"):
        first, second = run_ddp(2, compress)
        assert first["transport"] == "gloo"
        assert max_difference(first["weights"], second["weights"]) == 0
        errors[compress] = max_difference(first["weights"], one_rank)
    assert 1e-6 < errors["fp16"] < errors["bf16"] < 0.01


@pytest.mark.world_size(2)
def test_powersgd_has_a_shard_per_rank(in_ranks: Callable, tmp_path: Path) -> None:
    config = Config(ddp=DDPConfig(compress="powersgd", powersgd_rank=1))

    def train_and_save(rank: int) -> tuple[bool, dict[str, Any], bool]:
        strategy = ddp_of(rank, 2, config)
        assert not strategy.sharded
        trained(strategy, steps=12, parts=1)
        strategy.save_shards(tmp_path)
        restored = ddp_of(rank, 2, config)
        prepared(restored, network())
        restored.load_shards(tmp_path)
        again = restored._power.state_dict()
        same = all(torch.equal(again["error_dict"][key], value) for key, value in again["error_dict"].items())
        return strategy.sharded, strategy._power.state_dict(), same and not restored.warnings

    results = in_ranks(train_and_save)
    assert sorted(file.name for file in tmp_path.glob("*.pt")) == ["shard-0.pt", "shard-1.pt"]
    errors = []
    for rank, (sharded, state, restored) in enumerate(results):
        assert sharded and restored
        file = read_tensors(tmp_path / f"shard-{rank}.pt")
        assert file["iter"] == state["iter"] == 12 and file["rank"] == 1
        (error,) = file["error_dict"].values()
        assert torch.equal(error, next(iter(state["error_dict"].values())))
        errors.append(error)
    assert errors[0].abs().max() > 0 and not torch.equal(*errors)  # error feedback of each rank's own gradients


def test_a_shard_that_does_not_match_is_a_warning(tmp_path: Path) -> None:
    def load(rank: int) -> list[str]:
        strategy = ddp_of(0, 1, Config(ddp=DDPConfig(compress="powersgd", powersgd_rank=1 + rank)))
        prepared(strategy, network())
        strategy.save_shards(tmp_path)
        other = ddp_of(0, 1, Config(ddp=DDPConfig(compress="powersgd", powersgd_rank=3)))
        prepared(other, network())
        other.load_shards(tmp_path / "absent")  # the shard of another world size
        assert not other.warnings
        other.load_shards(tmp_path)
        return list(other.warnings)

    (warnings,) = run_ranks(1, load)
    assert warnings == [
        f"{tmp_path / 'shard-0.pt'} is of another version, network or rank: PowerSGD's error feedback starts at zero"
    ]


def test_without_powersgd_there_are_no_shards(tmp_path: Path) -> None:
    def save(rank: int) -> bool:
        strategy = ddp_of(0, 1)
        prepared(strategy, network())
        strategy.save_shards(tmp_path)
        strategy.load_shards(tmp_path)
        return strategy.sharded

    assert run_ranks(1, save) == [False]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.world_size(3)
def test_results_of_collectives(in_ranks: Callable) -> None:
    def reduced(rank: int) -> list[list[float]]:
        strategy, value = ddp_of(rank, 3), [float(rank), -float(rank)]
        reductions = [strategy.all_reduce(torch.tensor(value), op).tolist() for op in ("sum", "max", "min")]
        broadcasts = [strategy.broadcast(torch.tensor(value), source).tolist() for source in (0, 2)]
        strategy.barrier()
        return reductions + broadcasts + [strategy.broadcast(torch.tensor(value)).tolist()]

    expected = [[3, -3], [2, 0], [0, -2], [0, 0], [2, -2], [0, 0]]
    assert in_ranks(reduced) == [expected] * 3


def test_a_bucket_has_the_configured_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def buckets(bucket_mb: float) -> int:
        def work(rank: int) -> int:
            strategy = ddp_of(0, 1, Config(ddp=DDPConfig(bucket_mb=bucket_mb)))
            prepared(strategy, network())
            return strategy._parallel.bucket_bytes_cap

        return run_ranks(1, work)[0]

    assert (buckets(25.0), buckets(0.5)) == (25 * 2**20, 2**19)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set torchrun's variables for one rank, and restore torch's number of threads."""
    threads = torch.get_num_threads()
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**place, "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    yield
    torch.set_num_threads(threads)


def test_setup_joins_the_group_with_the_configured_timeout(launched: None) -> None:
    strategy = DDP(Config(compute=ComputeConfig(device="cpu", threads=1), ddp=DDPConfig(timeout_s=77.0)))
    world = strategy.setup()
    assert (world.rank, world.size, world.device.type) == (0, 1, "cpu") and world == strategy.world
    assert dist.get_backend() == "gloo"
    assert dist.group.WORLD._get_backend(torch.device("cpu")).options._timeout == timedelta(seconds=77)
    assert strategy.report()["transport"] == "gloo"
    try:
        raise ArithmeticError
    except ArithmeticError:
        strategy.close()
        assert dist.is_initialized(), "the other ranks would fail too"
    strategy.close()
    assert not dist.is_initialized()
    strategy.close()


def test_a_rank_with_a_gpu_exchanges_by_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is passed to torch is compared: there is no GPU."""
    gpu, groups, modules = World(rank=1, size=2, local_rank=1, local_size=2, device=torch.device("cuda", 1)), [], []
    monkeypatch.setattr(module, "make_world", lambda *arguments: gpu)
    monkeypatch.setattr(module, "launched", lambda name: None)
    monkeypatch.setattr(module, "init_process_group", lambda **fields: groups.append(fields["backend"]))
    monkeypatch.setattr(DDP, "_agree_on_device", lambda self: None)
    strategy = DDP(Config())
    assert strategy.setup() == gpu
    assert groups == ["cpu:gloo,cuda:nccl"] and strategy.report()["transport"] == "nccl"
    assert strategy._memory() is None, "shared memory is for CPUs"

    def parallel(model: torch.nn.Module, device_ids: list[torch.device] | None, **more: Any) -> Any:
        modules.append(device_ids)
        return SimpleNamespace(register_comm_hook=lambda state, hook: None)

    monkeypatch.setattr(module, "DistributedDataParallel", parallel)
    monkeypatch.setattr(module, "_without_buffer_exchange", dict)
    monkeypatch.setattr(Strategy, "prepare", lambda self, model, optimizer, clock: model)
    strategy.prepare(network(), None, Clock())
    strategy.world = replace(gpu, size=1, device=torch.device("cpu"))
    strategy.prepare(network(), None, Clock())
    assert modules == [[torch.device("cuda", 1)], None]

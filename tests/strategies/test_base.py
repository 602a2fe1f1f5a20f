"""Functions that strategies share: steps, clipping, states, initial weights, and selection of a strategy."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from distdl.core.config import ComputeConfig, Config, OptimConfig
from distdl.core.errors import UserError
from distdl.runtime.world import World
from distdl.strategies import base
from distdl.strategies.base import Strategy, make
from distdl.strategies.ddp import DDP
from distdl.strategies.paramserver.worker import Worker
from distdl.strategies.single import Single
from distdl.telemetry.clock import Clock
from gpu_fake import CUDA
from thread_strategies import ddp_of

LR = 0.5


def prepared(clip_norm: float = 0.0, momentum: float = 0.0, precision: str = "fp32") -> Single:
    """A strategy of one rank that trains a vector of two zeros by SGD."""
    strategy = Single(Config(optim=OptimConfig(clip_norm=clip_norm), compute=ComputeConfig(precision=precision)))
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    strategy.prepare(model, torch.optim.SGD(model.parameters(), lr=LR, momentum=momentum), Clock())
    return strategy


def one_step(strategy: Strategy, gradient: tuple[float, float] = (3.0, 4.0), parts: int = 1) -> torch.Tensor:
    """Weights after a step; the gradients of its micro-batches add up to `gradient`."""
    for index in range(parts):
        with strategy.micro_batch(last=index == parts - 1):
            strategy.backward((strategy.model.weight * torch.tensor(gradient)).sum() / parts)
    assert bool(strategy.step())
    assert strategy.model.weight.grad is None
    return strategy.model.weight.detach().clone()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("clip_norm", "norm"), [(0.0, 5.0), (0.5, 0.5), (5.1, 5.0)])
def test_a_step_changes_weights_by_the_rate_times_the_clipped_gradient(
    precision: str, clip_norm: float, norm: float
) -> None:
    weights = one_step(prepared(clip_norm, precision=precision))
    torch.testing.assert_close(weights, torch.tensor([[-0.6, -0.8]]) * LR * norm)


def test_micro_batches_add_up_to_a_step() -> None:
    torch.testing.assert_close(one_step(prepared(), parts=4), one_step(prepared()))


def test_gradients_are_reset_after_a_step() -> None:
    strategy = prepared()
    one_step(strategy)
    torch.testing.assert_close(one_step(strategy, (0.0, 0.0)), torch.tensor([[-1.5, -2.0]]))


def test_the_loss_is_scaled_only_in_fp16() -> None:
    for precision in ("fp32", "tf32", "bf16"):
        assert prepared(precision=precision).loss_scale.value() == math.inf
        assert prepared(precision=precision).report() == {}
    strategy = prepared(precision="fp16")
    assert strategy.loss_scale.value() == 65536
    assert strategy.report() == {"skipped_steps": 0, "loss_scale": 65536}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_restored_state_continues_with_the_same_bits(precision: str) -> None:
    first, second = (prepared(momentum=0.9, precision=precision) for _ in range(2))
    one_step(first)
    if precision == "fp16":  # a skipped step lowers the scale
        first.backward((first.model.weight * float("inf")).sum())
        first.step()
    second.load_model_state(first.model_state())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.loss_scale.state_dict() == first.loss_scale.state_dict()
    assert torch.equal(one_step(first), one_step(second))
    assert first.state_dict()["optimizer"]["state"]


def test_a_sharded_optimizer_is_refused() -> None:
    with pytest.raises(UserError, match=r"is sharded over ranks, which strategy single cannot load: resume with the"):
        prepared().load_state_dict({"ps": {}})


def network(rank: int) -> nn.Module:
    """A network in NHWC with buffers, whose values differ by rank."""
    model = nn.Sequential(nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for number, tensor in enumerate(model.state_dict().values()):
            tensor.copy_(torch.arange(tensor.numel()).view_as(tensor) + 100 * rank + 1000 * number)
    return model


@pytest.mark.world_size(2)
def test_every_rank_receives_the_weights_and_buffers_of_rank_0(in_ranks: Callable) -> None:
    def shared(rank: int) -> dict[str, torch.Tensor]:
        strategy = ddp_of(rank, 2)
        strategy.model = network(rank)
        strategy._share_initial_weights()
        assert strategy.model[0].weight.is_contiguous(memory_format=torch.channels_last)
        return strategy.model_state()

    expected = network(0).state_dict()
    for state in in_ranks(shared):
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)


def test_a_strategy_without_servers_cannot_serve(single: Single) -> None:
    with pytest.raises(NotImplementedError, match="strategy single has no ranks that serve"):
        single.serve()


def test_the_folder_of_records_is_set_when_the_run_folder_is_opened(single: Single, tmp_path) -> None:
    assert single.folder is None
    single.open_records(tmp_path)
    assert single.folder == tmp_path


@pytest.mark.parametrize(
    ("strategy", "environ", "made"),
    [
        ("auto", {}, Single),
        ("single", {}, Single),
        ("auto", {"RANK": "0", "WORLD_SIZE": "2"}, DDP),
        ("ddp", {"RANK": "1", "WORLD_SIZE": "2"}, DDP),
        ("single", {"RANK": "0", "WORLD_SIZE": "1"}, Single),
        ("ps", {"RANK": "1", "WORLD_SIZE": "2"}, Worker),
        ("distdl.strategies.single:Single", {}, Single),
    ],
)
def test_the_strategy_of_a_configuration(
    monkeypatch: pytest.MonkeyPatch, strategy: str, environ: dict[str, str], made: type[Strategy]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    config = Config(strategy=strategy)
    result = make(config)
    assert type(result) is made and result.config is config


def test_single_needs_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="strategy single needs one process, but 2 were started: set strategy to ddp"):
        make(Config(strategy="single"))
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UserError, match=r"options\.strategy\.depth: single has no setting 'depth'"):
        make(Config(strategy="single", options={"strategy": {"depth": 3}}))


def test_the_scaler_of_a_gpu_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[object] = []
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: devices.append(device) or "scaler")
    monkeypatch.setattr(base, "LossScale", lambda device, scaler=None: devices.append((device, scaler)))
    for precision in ("fp16", "bf16"):
        strategy = Single(Config(compute=ComputeConfig(precision=precision)))
        devices.clear()
        strategy.world = World(device=CUDA)
        strategy.prepare(nn.Identity(), None, Clock())
        assert devices == (["cuda", (CUDA, "scaler")] if precision == "fp16" else [(CUDA, None)])

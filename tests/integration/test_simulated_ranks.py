"""Every strategy on several ranks against a simulation of these ranks: BatchNorm, dropout, clipping, and averages."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from compare_runs import result
from distdl.cli.recipe import from_command_line
from distdl.core.checkpoints import find
from distdl.runtime.tensors import load
from jobs import QUIET, Ranks, torchrun_places
from simulated_ranks import SCALE, Simulated, simulate

# 75 samples on 3 ranks: two epochs of 32, 22 and 21 samples, divided into micro-batches of 6, 5, 4 and 3.
RECIPE = (
    *("--epochs", "2", "--data.limit", "75", "--data.global-batch", "32", "--seed", "3", "--evaluate-every", "2"),
    *("--model.name", "user_networks:Normalized", "--schedule.name", "constant", "--checkpoint.every-epochs", "0"),
    *("--optim.name", "sgd", "--optim.momentum", "0.9", "--optim.weight-decay", "0", "--optim.lr", "0.2"),
)
ACCUMULATED = ("--optim.accumulate", "2")
AVERAGED = ("--optim.ema", "0.9")
CLIPPED = ("--optim.clip-norm", "0.5")
FP16 = ("--compute.precision", "fp16")
# Two epochs of a step with 2, 1 and 1 samples by rank, and one with 1, 0 and 0. BatchNorm would be refused.
FEW_SAMPLES = ("--data.limit", "5", "--data.global-batch", "4", "--options", "model.norm=false")
OTHER_HOSTS = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


class Case(NamedTuple):
    strategy: str
    argv: Sequence[str] = ()
    ranks: int = 3
    servers: int = 0
    places: Mapping[str, str] = {}
    tolerance: float = 1e-6


ALL = (*ACCUMULATED, *AVERAGED, *CLIPPED)
FAST = {
    "single": Case("single", ALL, ranks=1),
    "ddp shared memory": Case("ddp", ALL),
    "ddp gloo": Case("ddp", (*CLIPPED, *FP16), places=OTHER_HOSTS, tolerance=1e-5),
    "ddp bf16": Case("ddp", (*CLIPPED, "--ddp.compress", "bf16"), tolerance=0.01),
    "horovod": Case("horovod", ALL),
    "ddp, few samples": Case("ddp", (*FEW_SAMPLES, *CLIPPED, *AVERAGED)),
    "ps": Case("ps", (*ACCUMULATED, *AVERAGED, "--ps.servers", "2"), servers=2),
}
SLOW = {
    "ddp shared memory fp16": Case("ddp", (*ALL, *FP16), tolerance=1e-5),
    "ddp fp16": Case("ddp", (*ALL, "--ddp.compress", "fp16"), tolerance=0.01),
    "horovod fp16": Case("horovod", (*ALL, *FP16), tolerance=1e-5),
    "horovod, few samples": Case("horovod", (*FEW_SAMPLES, *CLIPPED)),
    "ps, few samples": Case("ps", (*FEW_SAMPLES, "--ps.servers", "2"), servers=2),
    "deepspeed 1, few samples": Case("deepspeed", (*FEW_SAMPLES, *CLIPPED, "--deepspeed.stage", "1")),
    "ps overlap": Case("ps", (*AVERAGED, "--ps.overlap"), servers=1),
    **{
        f"deepspeed {stage}": Case("deepspeed", (*CLIPPED, *AVERAGED, "--deepspeed.stage", str(stage)))
        for stage in (0, 1, 2)
    },
    "deepspeed 3": Case("deepspeed", (*CLIPPED, "--deepspeed.stage", "3")),
    "deepspeed 1 fp16": Case("deepspeed", (*CLIPPED, *FP16, "--deepspeed.stage", "1"), tolerance=1e-5),
}


@cache
def simulated(argv: Sequence[str], strategy: str, ranks: int) -> Simulated:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the ranks
    try:
        return simulate(from_command_line([*RECIPE, *argv, *QUIET], strategy=strategy), ranks)
    finally:
        torch.set_num_threads(threads)


def trained(case: Case, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State in the checkpoint of rank 0, and the result."""
    argv = [*RECIPE, *case.argv, "--strategy", case.strategy, "--out", str(out), *QUIET]
    if case.strategy == "horovod":
        pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
        from horovod_ranks import HorovodRanks

        job: Ranks = HorovodRanks(argv, ranks=case.ranks)
    else:
        if case.strategy == "deepspeed":
            pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")
        job = Ranks(argv, places=[{**place, **case.places} for place in torchrun_places(case.ranks + case.servers)])
    assert job.wait(240) == [0] * (case.ranks + case.servers), job.text
    state, _ = load(find(out, warn=pytest.fail))
    return state, result(out)


def apart(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    """Largest absolute difference."""
    assert first.keys() == second.keys()
    return max(((first[name].float() - second[name].float()).abs().max().item() for name in first), default=0.0)


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=name) for name, case in FAST.items()),
        *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()),
    ],
)
def test_ranks_train_and_evaluate_as_simulated(tmp_path: Path, case: Case) -> None:
    expected = simulated(tuple(case.argv), case.strategy, case.ranks)
    state, ended = trained(case, tmp_path / "run")
    assert (ended["world_size"], ended["steps"], ended["images"]) == (case.ranks, expected.steps, expected.images)
    assert apart(state["model"], expected.weights) < case.tolerance
    assert apart(state["ema"]["average"] if expected.average else {}, expected.average) < case.tolerance
    assert ended.get("loss_scale", SCALE) == SCALE
    tolerance = 10 * case.tolerance
    assert ended["test"]["loss"] == pytest.approx(expected.test["loss"], abs=tolerance)
    if "--ddp.compress" not in case.argv:
        assert ended["test"]["accuracy"] == pytest.approx(expected.test["accuracy"], abs=1e-9)
    if "--ddp.compress" not in case.argv and case.argv[:6] != FEW_SAMPLES:
        # The statistics of another rank would give another loss.
        assert all(abs(other - expected.test["loss"]) > tolerance for other in expected.test_of_others)

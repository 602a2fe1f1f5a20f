"""Every strategy exchanges once per step for any number of micro-batches, and gives the weights of a single rank."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import rank_mains
from compare_runs import max_difference, result
from jobs import QUIET, Ranks, torchrun_places, train

# 109 samples: 6 full steps of 16, and one of 13, divided into 7 and 6, in at most 4 micro-batches.
RECIPE = (
    *("--epochs", "2", "--data.limit", "109", "--data.global-batch", "16", "--checkpoint.every-epochs", "0"),
    *("--optim.name", "sgd", "--optim.momentum", "0.9", "--optim.weight-decay", "0", "--optim.lr", "0.02"),
    *("--schedule.name", "constant", "--evaluate-every", "2"),
)
FROZEN = ("--model.freeze", "features.0.*")
MASKED = ("--model.trainable-features", "False", "True")
SAME_HOST, OTHER_HOSTS = {}, {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


class Case(NamedTuple):
    argv: Sequence[str]
    exchanges: dict[str, int]
    """Number of calls per step, by name."""
    places: dict[str, str] = SAME_HOST
    servers: int = 0
    tolerance: float = 1e-5


CASES = {
    "ddp gloo": Case(("--strategy", "ddp"), {"all_reduce": 1}, OTHER_HOSTS),
    "ddp shared memory": Case((), {"all_reduce": 2}),  # two synchronizations
    "ddp bf16": Case(("--ddp.compress", "bf16"), {"all_reduce": 1}, tolerance=0.05),
    "ddp powersgd": Case(("--ddp.compress", "powersgd"), {}, tolerance=0.05),
    "deepspeed 0": Case(("--strategy", "deepspeed", "--deepspeed.stage", "0"), {"all_reduce": 1}),
    "deepspeed 1": Case(
        ("--strategy", "deepspeed", "--deepspeed.stage", "1"), {"all_reduce": 2, "all_gather_into_tensor": 1}
    ),
    "deepspeed 2": Case(("--strategy", "deepspeed", "--deepspeed.stage", "2"), {}),
    "deepspeed 3": Case(("--strategy", "deepspeed", "--deepspeed.stage", "3"), {}),
    "ps": Case(("--strategy", "ps", "--ps.servers", "2"), {"push": 2}, servers=2),
    "ps overlap": Case(("--strategy", "ps", "--ps.servers", "2", "--ps.overlap"), {"push": 2}, servers=2),
    "horovod": Case(("--strategy", "horovod"), {}),
    "horovod held": Case(("--strategy", "horovod", "--horovod.backward-passes-per-step", "2"), {}, tolerance=1.0),
}
FAST = {("ddp gloo", 2, 4, ()), ("ddp shared memory", 2, 4, FROZEN)}
ROWS = [
    *((name, 2, 4, ()) for name in CASES),
    *((name, 2, 1, ()) for name in ("ddp gloo", "deepspeed 1", "horovod", "ps")),
    *(
        (name, 3, 4, MASKED)
        for name in ("ddp gloo", "ddp shared memory", "deepspeed 0", "deepspeed 1", "horovod", "ps")
    ),
    *((name, 2, 4, FROZEN) for name in ("ddp shared memory", "deepspeed 1", "deepspeed 3", "horovod", "ps")),
    *((name, 1, 4, ()) for name in ("ddp gloo", "deepspeed 1")),
]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Path]:
    """Returns the run of one rank with the given options; each is trained once."""
    runs: dict[tuple[str, ...], Path] = {}

    def run(options: Sequence[str]) -> Path:
        key = tuple(options)
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("single") / "run"
            train([*RECIPE, *options, "--out", str(runs[key])])
        return runs[key]

    return run


def launch(case: Case, argv: Sequence[str], ranks: int, main: Callable[[list[str]], int]) -> Ranks:
    if "horovod" in case.argv:
        pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
        from horovod_ranks import HorovodRanks

        return HorovodRanks([*argv, *case.argv, *QUIET], ranks=ranks, main=main)
    if "deepspeed" in case.argv:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")
    places = [place | case.places for place in torchrun_places(ranks + case.servers, alone=True)]
    return Ranks([*argv, *case.argv, *QUIET], places=places, main=main)


@pytest.mark.parametrize(
    ("name", "ranks", "accumulate", "options"),
    [
        pytest.param(
            *row,
            id=f"{row[0]}, {row[1]} ranks, {row[2]} micro-batches{', part frozen' if row[3] else ''}",
            marks=[] if row in FAST else [pytest.mark.slow],
        )
        for row in ROWS
    ],
)
def test_each_step_exchanges_once_and_equals_that_of_a_single_rank(
    tmp_path: Path,
    single: Callable[[Sequence[str]], Path],
    name: str,
    ranks: int,
    accumulate: int,
    options: Sequence[str],
) -> None:
    case, out = CASES[name], tmp_path / "run"
    argv = [*RECIPE, *options, "--optim.accumulate", str(accumulate), "--out", str(out)]
    job = launch(case, argv, ranks, rank_mains.counting)
    assert job.wait(300) == [0] * (ranks + case.servers), job.text
    for rank in range(ranks):
        steps = json.loads((tmp_path / f"run-counts-{rank}.json").read_text())
        counts = [{call: step.count(call) for call in step} for step in steps]
        assert len(counts) == result(out)["steps"] == 14
        expected = {"all_reduce": 2} if (name, ranks) == ("deepspeed 1", 1) else case.exchanges  # nothing to gather
        check_counts(name, counts, expected, accumulate, out)
    assert max_difference(out, single(options)) < case.tolerance


def check_counts(name: str, counts: list[dict[str, int]], expected: dict[str, int], accumulate: int, out: Path) -> None:
    if name == "ddp powersgd":  # uncompressed for 10 steps; then uncompressed tensors, P and Q
        assert counts == [{"all_reduce": 1}] * 10 + [{"all_reduce": 3}] * 4
    elif name == "horovod":  # one for each trained tensor
        assert counts == [{"allreduce_async_": sum(1 for _ in trained(out))}] * 14
    elif name == "horovod held":
        assert counts == [{}, {"allreduce_async_": sum(1 for _ in trained(out))}] * 7
    elif name == "deepspeed 2":  # gradients are sharded during backward: ZeRO reduces them in each micro-batch
        assert counts == [{"all_reduce": accumulate + 1, "all_gather_into_tensor": 1}] * 14
    elif name == "deepspeed 3":
        assert len({tuple(sorted(step.items())) for step in counts[1:]}) == 1
    else:
        assert counts == [expected] * len(counts)


def trained(run: Path) -> list[str]:
    """Names of the parameters with momentum, which are those that the optimizer trains."""
    from distdl.core.checkpoints import find
    from distdl.runtime.tensors import load

    state, _ = load(find(run, warn=pytest.fail))
    return list(state["strategy"]["optimizer"]["state"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "ddp shared memory" else [pytest.mark.slow])
        for name in ("ddp gloo", "ddp shared memory", "deepspeed 0", "deepspeed 1", "deepspeed 2", "horovod", "ps")
    ],
)
def test_ranks_that_start_with_different_weights_end_with_the_same_bits(tmp_path: Path, name: str) -> None:
    """The network has frozen parameters and BatchNorm buffers; the initial values differ by rank."""
    case = CASES[name]
    argv = [*RECIPE, "--model.name", "resnet20", "--model.freeze", "conv1*", "--max-steps", "3"]
    argv = [*argv, "--data.eval-batch-size", "1000", "--out", str(tmp_path / "run")]
    job = launch(case, argv, 2, rank_mains.other_weights)
    assert job.wait(300) == [0] * (2 + case.servers), job.text
    (first, end), (other_first, other_end) = (
        json.loads((tmp_path / f"run-digests-{rank}.json").read_text()) for rank in range(2)
    )
    assert first != other_first
    assert end == other_end

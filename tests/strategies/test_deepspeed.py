"""DeepSpeed: equality with ddp at every stage, exact evaluation and resume."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")

from safetensors.torch import load_file

from compare_checkpoints import assert_equal_checkpoints
from compare_runs import SGD, max_difference, result, weights
from distdl.cli.export import export
from distdl.core.config import Config, DeepSpeedConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.strategies import deepspeed
from distdl.strategies.deepspeed import DeepSpeed, _Files
from distdl.telemetry import clock
from distdl.telemetry.clock import Clock
from jobs import QUIET, Ranks, step_of, torchrun_places, train, wait_for
from simulated_time import simulate_time

DEEPSPEED = ("--strategy", "deepspeed")


def test_the_exchange_that_remains_after_backward_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward takes 2 s of a simulated clock, the exchange inside it 5 s. DeepSpeed itself does not run."""
    time = simulate_time(monkeypatch, clock)
    strategy = DeepSpeed(Config(strategy="deepspeed"))
    strategy.clock, strategy._reduce = Clock(), lambda *arguments: time.advance(5)
    with strategy.clock("backward"):
        time.advance(2)
        strategy._timed_reduce()
    assert {phase: seconds for phase, seconds in strategy.clock.read().items() if seconds} == {
        "backward": 2,
        "exchange": 5,
    }


def test_the_state_of_a_sharded_network_has_shapes_without_memory_until_it_is_gathered() -> None:
    strategy = DeepSpeed(Config(strategy="deepspeed", deepspeed=DeepSpeedConfig(stage=3)))
    strategy.model, strategy._gathered = torch.nn.Linear(3, 2), None
    for parameter in strategy.model.parameters():
        parameter.ds_shape = parameter.shape  # DeepSpeed keeps the whole shape of a parameter here
    state = strategy.model_state()
    assert {name: tuple(each.shape) for name, each in state.items()} == {"weight": (2, 3), "bias": (2,)}
    assert all(each.is_meta for each in state.values())


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 steps of SGD on 2 ranks under ddp."""
    run = tmp_path_factory.mktemp("ddp") / "run"
    train([*SGD, "--out", str(run)], ranks=2)
    return run


@pytest.mark.parametrize("stage", [0, 1, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (2, 3))])
def test_weights_equal_those_of_ddp(tmp_path: Path, ddp: Path, stage: int) -> None:
    argv = [*SGD, *DEEPSPEED, "--deepspeed.stage", str(stage)]
    extensions = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")}
    train([*argv, "--out", str(tmp_path / "run")], ranks=2, timeout=240, env=extensions)
    assert not (tmp_path / "extensions").exists(), "a training needs no compiler"
    assert max_difference(ddp, tmp_path / "run") < 1e-5
    ended = result(tmp_path / "run")
    assert ended["strategy"] == "deepspeed"
    assert ended["test"] == pytest.approx(result(ddp)["test"], abs=1e-5)
    assert ended["phases_s"]["exchange"] > 0


RESUMED = ("--epochs", "6", "--data.limit", "600", "--data.batch-size", "12", "--checkpoint.every-steps", "10")


def case(stage: int, *options: str, slow: bool = True) -> object:
    """A row of the test below."""
    marks = [pytest.mark.slow] if slow else []
    argv = ("--deepspeed.stage", str(stage), *options)
    return pytest.param(argv, id=" ".join(argv).replace("--", ""), marks=marks)


@pytest.mark.parametrize(
    "options",
    [
        case(1, "--optim.ema", "0.9", slow=False), case(0), case(2), case(3), case(1, "--deepspeed.offload"),
        case(3, "--deepspeed.offload"), case(2, "--compute.precision", "bf16"), case(0, "--compute.precision", "fp16"),
        case(1, "--compute.precision", "fp16"), case(3, "--compute.precision", "bf16"),
        case(2, "--optim.accumulate", "3", "--optim.clip-norm", "1"),
    ],
)  # fmt: skip
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    argv = [*RESUMED, *DEEPSPEED, *options, "--log-every-s", "0"]
    train([*argv, "--out", str(tmp_path / "uncut")], ranks=2, timeout=240)
    out = tmp_path / "cut"
    argv = [*argv, "--out", str(out), "--resume", "auto"]
    goal = random.Random(str(options)).randint(30, 90)
    job = Ranks([*argv, *QUIET], ranks=2)
    wait_for(lambda: step_of(out) >= goal or not job.processes[0].is_alive(), 120, f"step {goal}")
    assert job.processes[0].is_alive()
    job.kill()
    train(argv, ranks=2, timeout=240)
    assert result(out)["resumes"] == 1
    assert_equal_checkpoints(tmp_path / "uncut", out)


AGAIN = ("--max-steps", "51", "--optim.lr", "0", "--optim.momentum", "0", "--data.eval-batch-size", "7")
"""One further step that changes no weight, and an evaluation in batches that are not divisible by the ranks."""


@pytest.mark.slow
def test_shards_of_stage_3_are_exported_as_complete_weights(tmp_path: Path) -> None:
    """One rank without DeepSpeed and three with it read the exported weights, and evaluate with the same result."""
    run, file = tmp_path / "run", tmp_path / "whole.safetensors"
    train([*SGD, *DEEPSPEED, "--deepspeed.stage", "3", "--out", str(run)], ranks=2, timeout=240)
    export(run, file, which="newest")
    shapes = {name: list(tensor.shape) for name, tensor in load_file(file).items()}
    assert shapes == {name: list(tensor.shape) for name, tensor in weights(run).items()}
    assert min(map(len, shapes.values())) > 0
    for ranks, argv in ((1, ()), (3, (*DEEPSPEED, "--deepspeed.stage", "3"))):
        out = tmp_path / f"on{ranks}"
        train(
            [*SGD, *argv, *AGAIN, "--max-steps", "1", "--model.weights", str(file), "--out", str(out)],
            ranks=ranks,
            timeout=240,
        )
        assert result(out)["test"]["accuracy"] == result(run)["test"]["accuracy"]
        assert result(out)["test"]["loss"] == pytest.approx(result(run)["test"]["loss"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
def test_evaluation_is_exact_on_1_2_and_3_ranks(tmp_path: Path, stage: int) -> None:
    train([*SGD, "--out", str(tmp_path / "made")])
    export(tmp_path / "made", tmp_path / "made.safetensors", which="newest")
    argv = [*SGD, *AGAIN, *DEEPSPEED, "--deepspeed.stage", str(stage), "--max-steps", "1"]
    evaluations = []
    for ranks in (1, 2, 3):
        out = tmp_path / str(ranks)
        again = [*argv, "--model.weights", str(tmp_path / "made.safetensors"), "--out", str(out), *QUIET]
        job = Ranks(again, places=torchrun_places(ranks, alone=True))
        assert job.wait(240) == [0] * ranks, job.text
        evaluations.append(result(out)["test"])
    assert len({test["accuracy"] for test in [*evaluations, result(tmp_path / "made")["test"]]}) == 1
    assert max(test["loss"] for test in evaluations) - min(test["loss"] for test in evaluations) < 1e-7


def test_another_world_size_is_refused_with_advice(tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = [*SGD, "--max-steps", "4", *DEEPSPEED, "--deepspeed.stage", "2", "--out", str(run)]
    train(argv, ranks=2, timeout=240)
    job = Ranks([*argv, "--max-steps", "8", "--resume", "auto", *QUIET], ranks=1, places=torchrun_places(1, alone=True))
    assert job.wait(240) == [2]
    output = " ".join(job.text.split())
    assert "written by stage 2 on 2 ranks" in output
    assert "distdl export" in output and "--model.weights" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(deepspeed=DeepSpeedConfig(offload=True, stage=0)), "deepspeed.offload .* needs deepspeed.stage 1"),
        (Config(deepspeed=DeepSpeedConfig(stage=3), optim=OptimConfig(ema=0.9)), "optim.ema needs unsharded weights"),
        (
            Config(deepspeed=DeepSpeedConfig(stage=1), optim=OptimConfig(name="lamb")),
            "lamb needs the norm of each layer",
        ),
    ],
)
def test_settings_that_zero_does_not_support_are_refused(config: Config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeepSpeed(config).setup()


class Executed:
    """An object whose unpickling would print."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_shards_are_read_without_executing_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shard.pt"
    torch.save({"state": Executed()}, file)
    with pytest.raises(UserError, match="objects other than tensors and plain values"):
        _Files(None).load(str(file))
    assert "code ran" not in capsys.readouterr().out


def failing_with(error: BaseException, cause: BaseException | None = None) -> Callable[..., None]:
    """A function that raises an error, while it handles another one if given."""

    def fail(*_: object) -> None:
        if cause is None:
            raise error
        try:
            raise cause
        except BaseException:
            raise error  # noqa: B904 - as torch does

    return fail


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("function", [failing_with(FULL), failing_with(RuntimeError("unexpected pos 64"), FULL)])
def test_a_full_disk_is_an_error_after_all_ranks_have_saved(
    function: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _Files(None)
    monkeypatch.setattr(deepspeed, "write_atomic", function)
    files.save({}, str(tmp_path / "shard.pt"))
    assert files.take_error() is FULL and files.take_error() is None


@pytest.mark.parametrize("cause", [None, ValueError("a")])
def test_other_errors_while_saving_are_raised(
    cause: BaseException | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _Files(None)
    monkeypatch.setattr(deepspeed, "write_atomic", failing_with(RuntimeError("unexpected"), cause))
    with pytest.raises(RuntimeError, match="unexpected"):
        files.save({}, str(tmp_path / "shard.pt"))
    assert files.take_error() is None

"""Complete trainings in this process."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core import runlock
from distdl.core.config import Config, DataConfig, ModelConfig, PredictConfig, TelemetryConfig
from distdl.core.console import PlainConsole
from distdl.core.contracts import ComponentError
from distdl.core.errors import Failure, UserError
from distdl.core.files import read_rows
from distdl.runtime.signals import SIGNALS
from distdl.strategies.single import Single
from distdl.training.callbacks.display import Display, Warnings
from distdl.training.callbacks.forecast import Forecast
from distdl.training.callbacks.metrics import MetricsSink
from distdl.training.entry import Entry
from distdl.training.events import Callback
from distdl.training.session import default_callbacks, enter, train
from run_folders import tree


class Listener(Callback):
    """Calls `act` with the trainer at step 2, and records events."""

    def __init__(self, act: Callable[[Any], object] = lambda trainer: None) -> None:
        self.act, self.events = act, []

    def begin(self, trainer: Any) -> None:
        self.events.append("begin")

    def step_end(self, trainer: Any, loss: torch.Tensor) -> None:
        if trainer.progress.step == 2:
            self.act(trainer)

    def warn(self, trainer: Any, message: str) -> None:
        self.events.append(message)

    def close(self, trainer: Any) -> None:
        self.events.append("close")


@pytest.fixture
def run(tmp_path: Path, make: Callable, small: Callable[..., Config]) -> Callable[..., str]:
    """Trains in the folder `run`, with the given fields of the configuration."""
    del make  # restores torch's settings

    def start(*callbacks: Callback, **fields: Any) -> str:
        config = small(**{"out": tmp_path / "run", "epochs": 2, **fields})
        strategy = Single(config)
        strategy.setup()
        return train(config, strategy, callbacks)

    return start


def result(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "run" / "result.json").read_text())


def test_a_training_ends_with_a_result_rows_and_a_checkpoint(
    run: Callable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers, listener = [signal.getsignal(number) for number in SIGNALS], Listener()
    assert run(listener, log_every_s=0.0) == "completed"
    ended = result(tmp_path)
    assert (ended["status"], ended["steps"], ended["epochs"], ended["images"]) == ("completed", 6, 2, 192)
    assert ended["held_s"] >= ended["train_s"] > 0  # the callbacks that measure are active
    (leg,) = ended["legs"]
    assert {
        name: leg[name] for name in ("from_epoch", "from_step", "epochs", "world_size", "global_batch", "changed")
    } == {"from_epoch": 0.0, "from_step": 0, "epochs": 2, "world_size": 1, "global_batch": 32, "changed": {}}
    assert (leg["status"], leg["to_step"]) == ("completed", 6) and "resumed_from" not in leg
    rows = list(read_rows(tmp_path / "run" / "metrics.jsonl"))
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if row["kind"] == "test"] == [3, 6]
    assert (tmp_path / "run" / "checkpoints" / "step-00000006" / "manifest.json").is_file()
    assert (tmp_path / "run" / "environment.json").read_text() != "{}\n"
    assert listener.events == ["begin", "close"]
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert runlock.holder(tmp_path / "run") is None
    assert capfd.readouterr() == ("", "")


def test_a_resume_names_its_source_and_changes(run: Callable, tmp_path: Path) -> None:
    assert run() == "completed"
    source = tmp_path / "run"
    assert run(out=tmp_path / "next", resume=str(source), epochs=3) == "completed"
    ended = json.loads((tmp_path / "next" / "result.json").read_text())
    assert (ended["steps"], ended["resumes"]) == (9, 1)
    (leg,) = ended["legs"]
    assert (leg["from_epoch"], leg["from_step"], leg["resumed_from"]) == (2.0, 6, str(source))
    assert leg["changed"]["epochs"] == [2, 3]
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(UserError, match="nothing is left to train"):
        run(resume="auto", epochs=1)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert run(resume="auto", epochs=3) == "completed"
    assert [leg["from_step"] for leg in result(tmp_path)["legs"]] == [0, 6]


TRACKER = "user_trackers:JsonLines"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a model": ({"model": ModelConfig(name="softmaxx")}, "did you mean"),
    "a data set": ({"data": DataConfig(name="/nowhere/set")}, "/nowhere/set"),
    "a tracker's setting": ({"trackers": (TRACKER,), "options": {TRACKER: {"fil": "x"}}}, 'did you mean "file"'),
    "a metric's setting": ({"metrics": ("top-k",), "options": {"top-k": {"kk": "1"}}}, "options.top-k.kk"),
    "a resume": ({"resume": "/nowhere/run", "telemetry": TelemetryConfig(hz=10.0)}, "no whole checkpoint"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refused_training_writes_nothing(run: Callable, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(UserError, match=message):
        run(**fields)
    assert tree(tmp_path) == {}
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_an_error_in_a_callback_is_a_failed_run_with_a_result(run: Callable, tmp_path: Path) -> None:
    def fail(trainer: Any) -> None:
        raise ArithmeticError("no")

    listener = Listener(fail)
    with pytest.raises(ArithmeticError):
        run(listener)
    assert (result(tmp_path)["status"], result(tmp_path)["steps"]) == ("failed", 2)
    assert result(tmp_path)["legs"][-1]["status"] == "failed"
    assert listener.events == ["begin", "close"]
    assert runlock.holder(tmp_path / "run") is None


def test_a_user_error_during_training_is_a_failure(run: Callable, tmp_path: Path) -> None:
    """Exit code 2 would state that nothing has been written."""

    def fail(trainer: Any) -> None:
        raise UserError("x.png cannot be read")

    with pytest.raises(Failure, match=r"^x.png cannot be read; --resume auto continues from the last checkpoint$"):
        run(Listener(fail))
    assert result(tmp_path)["status"] == "failed"


def test_an_invalid_component_is_a_failure_after_the_first_step(run: Callable, tmp_path: Path) -> None:
    def fail(trainer: Any) -> None:
        raise ComponentError("schedule.name: own:part returned None")

    with pytest.raises(Failure, match=r"^schedule.name: own:part returned None; --resume auto continues"):
        run(Listener(fail))
    assert (result(tmp_path)["status"], result(tmp_path)["steps"]) == ("failed", 2)


def test_a_tracker_receives_the_result(run: Callable, tmp_path: Path) -> None:
    assert run(trackers=(TRACKER,)) == "completed"
    calls = [json.loads(line) for line in (tmp_path / "run" / "calls.jsonl").read_text().splitlines()]
    assert calls[-2:] == [["result", 6], ["close", "completed"]]


def test_the_devices_are_held_since_the_given_time(
    small: Callable[..., Config], make: Callable, tmp_path: Path
) -> None:
    config = small(out=tmp_path / "run")
    strategy = Single(config)
    strategy.setup()
    train(config, strategy, began=time.time() - 1000)
    assert result(tmp_path)["held_s"] > 1000


def test_a_stopped_training_is_resumed(run: Callable, tmp_path: Path) -> None:
    assert run(Listener(lambda _: signal.raise_signal(signal.SIGTERM)), epochs=100_000) == "stopped"
    steps = result(tmp_path)["steps"]
    assert result(tmp_path)["status"] == "stopped" and steps >= 2
    assert run(max_steps=steps + 1, resume="auto", epochs=100_000) == "completed"
    assert result(tmp_path)["steps"] == steps + 1
    assert [leg["status"] for leg in result(tmp_path)["legs"]] == ["stopped", "completed"]


@pytest.mark.parametrize("stopped", [False, True])
def test_the_last_lines_name_the_run_folder_or_the_resume_command(
    run: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str], stopped: bool
) -> None:
    act = (lambda _: signal.raise_signal(signal.SIGTERM)) if stopped else (lambda _: None)
    run(Listener(act), progress="plain", epochs=100_000 if stopped else 1)
    lines = capsys.readouterr().out
    assert f"digits: {'stopped' if stopped else 'completed'}" in lines
    assert ("\nepoch 1/1  test loss " in lines) is not stopped
    assert ("resume with: " in lines) is stopped
    assert f"\nrun folder: {tmp_path / 'run'}\n" in lines
    assert lines.splitlines()[-1].startswith(
        "resume with: " if stopped else "run folder: "
    )  # the last line is the next step for the user


def test_the_older_option_for_a_tracker_gives_a_warning(run: Callable) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'distdl[tensorboard]'")
    listener = Listener()
    run(listener, epochs=1, telemetry=TelemetryConfig(hz=0.0, tensorboard=True))
    assert listener.events[1] == "telemetry.tensorboard is an older name: use --trackers tensorboard"


def test_a_folder_that_changed_since_it_was_selected_is_refused(make: Callable, tmp_path: Path) -> None:
    trainer = make()
    with pytest.raises(UserError, match="start it again"):
        enter(trainer, Entry(path=trainer.run.path, seen=(["step-00000003"], 0)))
    assert trainer.strategy.folder is None
    enter(trainer, Entry(path=trainer.run.path))
    assert trainer.strategy.folder == trainer.run.path


@pytest.mark.parametrize(
    ("progress", "target", "kinds"),
    [
        ("none", 0.0, [MetricsSink, Warnings]),
        ("plain", 0.0, [MetricsSink, Display]),
        ("auto", 0.9, [MetricsSink, Forecast, Display]),
        ("none", 0.9, [MetricsSink, Forecast, Warnings]),
    ],
)
def test_callbacks_of_rank_0(progress: str, target: float, kinds: list[type]) -> None:
    config = Config(progress=progress, predict=PredictConfig(target=target))
    assert [type(each) for each in default_callbacks(config, PlainConsole(quiet=True))] == kinds

"""Content of result.json at the start and at the end."""

from collections.abc import Callable
from typing import Any

from distdl.core.config import ComputeConfig, DataConfig
from distdl.training.events import Callback
from distdl.training.results import identity, result


class Adds(Callback):
    """A callback that adds a value."""

    def result(self, trainer: object) -> dict[str, Any]:
        return {"added": 3}


def test_the_result_identifies_the_run_before_the_first_step(make: Callable) -> None:
    assert identity(make(name="mine", data=DataConfig(limit=96, global_batch=48))) == {
        "name": "mine",
        "world_size": 1,
        "nodes": 1,
        "strategy": "single",
        "loader": "resident",
        "device": "cpu",
        "global_batch": 48,
    }


def test_a_result_has_position_evaluations_times_and_values_of_callbacks(make: Callable) -> None:
    trainer = make([Adds()], compute=ComputeConfig(threads=1, precision="fp16"))
    state, progress = trainer.state, trainer.state.progress
    progress.step, progress.epoch, progress.images, progress.resumes = 7, 2, 200, 1
    progress.elapsed_s = 8.0
    state.metrics = {"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.25}}
    state.best = {"epoch": 1, "step": 3, "validation": {}}
    trainer.seconds.update(evaluate=2.0, checkpoint=3.0)
    assert result(trainer, state, "stopped", ["x.png"]) == {
        **identity(trainer),
        "status": "stopped",
        "validation": {"accuracy": 0.5},
        "test": {"accuracy": 0.25},
        "best": state.best,
        "epochs": 2,
        "steps": 7,
        "images": 200,
        "train_s": 8.0,
        "evaluate_s": 2.0,
        "checkpoint_s": 3.0,
        "images_per_s": 25.0,
        "phases_s": trainer.clock.read(),
        "resumes": 1,
        "skipped": ["x.png"],
        "skipped_steps": 0,
        "loss_scale": 65536,
        "added": 3,
    }


def test_a_run_without_a_step_has_no_rate_and_no_best(make: Callable) -> None:
    trainer = make()
    values = result(trainer, trainer.state, "failed", [])
    assert values["images_per_s"] == 0.0 and "best" not in values
    assert values["status"] == "failed"

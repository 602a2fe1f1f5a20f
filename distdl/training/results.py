"""Values of result.json that the trainer provides."""

from typing import Any

from distdl.training.events import Training
from distdl.training.state import TrainState


def identity(trainer: Training) -> dict[str, Any]:
    """Values that are known before the first step."""
    return {
        "name": trainer.config.name,
        "world_size": trainer.world.size,
        "nodes": trainer.nodes,
        "strategy": trainer.strategy.name,
        "loader": trainer.loaders["train"].name,
        "device": str(trainer.world.device.type),
        "global_batch": trainer.global_batch,
    }


def result(trainer: Training, state: TrainState, status: str, skipped: list[str]) -> dict[str, Any]:
    """All values at the end of a training, including those of the strategy and the callbacks."""
    progress = state.progress
    return {
        "status": status,
        **identity(trainer),
        **state.metrics,
        **({"best": state.best} if state.best else {}),
        "epochs": progress.epoch,
        "steps": progress.step,
        "images": progress.images,
        "train_s": progress.elapsed_s,
        "evaluate_s": trainer.seconds["evaluate"],
        "checkpoint_s": trainer.seconds["checkpoint"],
        "images_per_s": progress.images / progress.elapsed_s if progress.elapsed_s else 0.0,
        "phases_s": trainer.clock.read(),
        "resumes": progress.resumes,
        "skipped": skipped,
        **trainer.strategy.report(),
        **trainer.events.result(trainer),
    }

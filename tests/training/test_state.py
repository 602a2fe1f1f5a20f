"""Position, restart and state of a training."""

import torch

from distdl.core.manifest import Progress
from distdl.optim.ema import EMA
from distdl.training.state import TrainState


def state(decay: float = 0.9) -> TrainState:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return TrainState(model=model, optimizer=optimizer, ema=EMA(model, decay), samples=8)


def test_the_position_includes_the_samples_of_the_current_epoch() -> None:
    training = state()
    assert training.epoch_and_step() == {"epoch": 0, "step": 0}
    training.advance(2)
    assert (training.position, training.epoch_and_step()) == (0.25, {"epoch": 0.25, "step": 1})
    training.advance(6)
    training.end_epoch()
    assert training.progress == Progress(step=2, epoch=1, images=8)
    assert training.epoch_and_step() == {"epoch": 1, "step": 2}


def test_a_restart_keeps_only_the_weights() -> None:
    training = state()
    training.model(torch.ones(1, 2)).sum().backward()
    training.optimizer.step()
    training.advance(2)
    training.metrics["test"], training.best = {"accuracy": 1.0}, {"step": 1}
    average, weights = training.ema, training.model.weight.detach().clone()
    training.restart()
    assert (training.progress, training.metrics, training.best) == (Progress(), {}, None)
    assert not training.optimizer.state
    assert training.ema is not average and training.ema.updates == 0
    assert torch.equal(training.ema.average["weight"], weights)


def test_a_state_is_restored_with_its_position() -> None:
    saved, restored = state(), state()
    saved.ema.update(saved.model)
    saved.metrics, saved.best = {"test": {"accuracy": 0.5, "loss": 1.0}}, {"epoch": 1, "step": 3}
    restored.load_state_dict(saved.state_dict(), Progress(step=3, epoch=1))
    assert restored.ema.updates == 1
    assert torch.equal(restored.ema.average["weight"], saved.ema.average["weight"])
    assert restored.best == saved.best
    # Metrics of version 1 have no position.
    assert restored.metrics == {"test": {"accuracy": 0.5, "loss": 1.0, "epoch": 1, "step": 3}}


def test_an_unsaved_average_starts_at_the_loaded_weights() -> None:
    restored = state()
    with torch.no_grad():
        restored.model.weight.fill_(3.0)
    restored.load_state_dict({"ema": {}, "metrics": {}}, Progress())
    assert torch.equal(restored.ema.average["weight"], restored.model.weight)

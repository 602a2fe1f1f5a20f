"""Schedules are compared with torch's, have known values, and depend only on the position."""

import random

import numpy as np
import pytest
import torch
from torch.optim import SGD, Optimizer, lr_scheduler

from distdl.core.config import ScheduleConfig
from distdl.core.errors import UserError
from distdl.core.registry import rows
from distdl.optim.schedules import build

EPOCHS = 60
# Expected values within 60 epochs: {epoch: factor of the base rate}.
SCHEDULE_POINTS = [
    (ScheduleConfig(), {0: 1, 30: 1, 60: 1}),
    (ScheduleConfig(name="step", step_epochs=20), {0: 1, 19.99: 1, 20: 0.1, 39.99: 0.1, 40: 0.01, 60: 0.001}),
    (ScheduleConfig(name="multistep", milestones=(30.0, 45.5), gamma=0.5), {0: 1, 29.9: 1, 30: 0.5, 45.5: 0.25}),
    (ScheduleConfig(name="cosine"), {0: 1, 30: 0.5, 60: 0}),
    (ScheduleConfig(name="cosine", final_lr=0.2), {0: 1, 30: 0.6, 60: 0.2}),
    (ScheduleConfig(name="onecycle"), {0: 0.04, 9: 0.52, 18: 1, 39: 0.500002, 60: 4e-6}),
    (ScheduleConfig(name="onecycle", warmup_fraction=0.0), {0: 1, 60: 4e-6}),
    (ScheduleConfig(name="onecycle", warmup_fraction=1.0), {0: 0.04, 60: 1}),
    (ScheduleConfig(name="cosine", warmup_epochs=10.0), {0: 0.01, 5: 0.505, 10: 1, 35: 0.5, 60: 0}),
    (ScheduleConfig(name="step", step_epochs=4, warmup_epochs=5.0), {0: 0.001, 5: 0.1, 8: 0.01}),
    (ScheduleConfig(name="multistep", milestones=(30.0,), warmup_epochs=5.0), {0: 0.01, 5: 1, 29: 1, 30: 0.1}),
    (ScheduleConfig(name="constant", warmup_epochs=60.0), {0: 0.01, 30: 0.505, 60: 1}),
]
IDS = [f"{config.name}-warmup{config.warmup_epochs:g}-{index}" for index, (config, _) in enumerate(SCHEDULE_POINTS)]
every_schedule = pytest.mark.parametrize(("config", "points"), SCHEDULE_POINTS, ids=IDS)


@every_schedule
def test_known_values(config: ScheduleConfig, points: dict[float, float]) -> None:
    assert {epoch: build(config, EPOCHS)(epoch) for epoch in points} == {
        epoch: pytest.approx(value, abs=1e-12) for epoch, value in points.items()
    }


@every_schedule
def test_the_factor_depends_only_on_the_position(config: ScheduleConfig, points: dict[float, float]) -> None:
    """A resumed run uses the rates of an uninterrupted run."""
    positions = [step * EPOCHS / 997 for step in range(998)]
    factor = build(config, EPOCHS)
    straight = [factor(position) for position in positions]
    shuffled = random.Random(0).sample(range(998), 998)
    again = {index: factor(positions[index]) for index in shuffled}
    assert [again[index] for index in range(998)] == straight
    assert min(straight) >= 0
    assert max(straight) <= 1


@pytest.mark.parametrize("name", rows("schedules"))
def test_warmup_rises_to_the_schedule(name: str) -> None:
    config = ScheduleConfig(name=name, warmup_epochs=7.0, milestones=(3.0, 30.0), step_epochs=5)
    rates = [build(config, EPOCHS)(epoch) for epoch in np.linspace(0, 7, 200)]
    assert np.all(np.diff(rates) > 0)
    assert rates[0] == pytest.approx(rates[-1] / 100)
    assert build(config, EPOCHS)(7 - 1e-9) == pytest.approx(build(config, EPOCHS)(7), rel=1e-6)


def _cosine(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=0.1)


TORCH = [
    (ScheduleConfig(name="step", step_epochs=7, gamma=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    (ScheduleConfig(name="multistep", milestones=(9.0, 44.0)), lambda o: lr_scheduler.MultiStepLR(o, [9, 44])),
    (ScheduleConfig(name="cosine", final_lr=0.1), _cosine),
    (
        ScheduleConfig(name="onecycle", warmup_fraction=0.25),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=EPOCHS + 1, pct_start=16 / (EPOCHS + 1)),
    ),
]


@pytest.mark.parametrize(("config", "scheduler"), TORCH, ids=[config.name for config, _ in TORCH])
def test_the_schedule_equals_torchs(config: ScheduleConfig, scheduler: object) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    reference = scheduler(optimizer)
    expected = []
    for _ in range(EPOCHS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    got = [build(config, EPOCHS)(epoch) for epoch in range(EPOCHS)]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("samples", [1797, 60000, 49999])
def test_the_rate_drops_at_the_first_step_of_an_epoch(samples: int) -> None:
    """Positions are computed from samples: rounding must not move a drop by a step."""
    config = ScheduleConfig(name="step", step_epochs=3)
    for epoch in range(1, 50):
        assert build(config, 50)(epoch + 0 / samples) == build(config, 50)(epoch - 1 + samples / samples)
        assert build(config, 50)(epoch - 1 / samples) == pytest.approx(0.1 ** ((epoch - 1) // 3))


def test_a_schedule_of_another_package_receives_its_settings() -> None:
    config = ScheduleConfig(name="user_schedule:halved", warmup_epochs=0.0)
    assert build(config, EPOCHS, {"every": "2"})(5.0) == 0.25
    with pytest.raises(UserError, match=r"^options.schedule.each: .* has no setting 'each'"):
        build(config, EPOCHS, {"each": 2})
    with pytest.raises(UserError, match=r"^options.schedule.every is missing"):
        build(config, EPOCHS)

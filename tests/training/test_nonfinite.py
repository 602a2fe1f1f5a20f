"""The first step with a non-finite loss is stored; on a GPU the loss is not copied to the host."""

import math

import torch

from distdl.training.nonfinite import NonFiniteGuard, earliest

LOSSES = [1.0, math.inf, 2.0, math.nan]


def test_the_first_step_with_a_non_finite_loss_is_stored_until_a_reset() -> None:
    guard = NonFiniteGuard(torch.device("cpu"))
    for step, loss in enumerate(LOSSES, start=7):
        assert guard.first_step == (8 if step > 8 else None)
        guard.record(torch.tensor(loss), step)
    assert guard.first_step == 8
    guard.reset()
    assert guard.first_step is None


def test_other_devices_compute_it_from_tensors_only() -> None:
    first = torch.tensor(math.inf)
    for step, loss in enumerate(LOSSES, start=7):
        first = earliest(first, torch.tensor(loss), step)
    assert float(first) == 8

"""The first step with a non-finite loss is stored; on a GPU the loss is not copied to the host."""

import math

import torch

from distdl.training.nonfinite import NonFiniteGuard
from gpu_fake import on_gpu

LOSSES = [1.0, math.inf, 2.0, math.nan]


def test_the_first_step_with_a_non_finite_loss_is_stored_until_a_reset() -> None:
    guard = NonFiniteGuard(torch.device("cpu"))
    for step, loss in enumerate(LOSSES, start=7):
        assert guard.first_step == (8 if step > 8 else None)
        guard.record(torch.tensor(loss), step)
    assert guard.first_step == 8
    guard.reset()
    assert guard.first_step is None


def test_a_loss_on_a_gpu_is_not_read_before_the_ranks_check() -> None:
    """A tensor that claims to be on a GPU fails if it is read."""
    guard = NonFiniteGuard(torch.device("cpu"))
    for step, loss in enumerate(LOSSES, start=7):
        guard.record(on_gpu(torch.tensor(loss)), step)
    guard._first = guard._first.as_subclass(torch.Tensor)
    assert guard.first_step == 8


def test_finite_losses_on_a_gpu_are_no_failure() -> None:
    guard = NonFiniteGuard(torch.device("cpu"))
    guard.record(on_gpu(torch.tensor(1.0)), 1)
    guard._first = guard._first.as_subclass(torch.Tensor)
    assert guard.first_step is None

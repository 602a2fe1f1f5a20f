"""Optimizers for many trainings of one network at once: trials are the first axis of each tensor.

The update rules are those of torch.optim, but each setting is a vector [trials] instead of a number. Many small
networks are then trained in the time of a few, because a step's cost is the calls of operators, not their arithmetic.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

UpdateRule = Literal["sgd", "adagrad", "adam"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One trial's optimizer. Fields that `kind` does not use have no effect."""

    kind: UpdateRule
    lr: float
    momentum: float = 0.0
    """sgd."""
    beta1: float = 0.9
    beta2: float = 0.999
    """adam: decay of the first and second moment."""
    eps: float = 1e-8
    """adagrad, adam: added to the divisor, which keeps it above 0."""


class StackedOptimizer:
    """Updates the parameters of trials with different optimizers, in place.

    Args:
        parameters: each [trials, ...].
        settings: one per trial; those of one kind must be adjacent.
    """

    def __init__(self, parameters: Sequence[Tensor], settings: Sequence[Setting]) -> None:
        self._groups: list[_Rule] = []
        self._slices: list[slice] = []
        first = 0
        for _, members in itertools.groupby(settings, key=lambda setting: setting.kind):
            group = list(members)
            members_slice = slice(first, first := first + len(group))
            self._slices.append(members_slice)
            self._groups.append(
                _RULES[group[0].kind]([parameter.detach()[members_slice] for parameter in parameters], group)
            )
        if any(len(parameter) != first for parameter in parameters) or len(self._groups) > len({*_kinds(settings)}):
            raise ValueError("expected one setting per trial, with the settings of each kind adjacent")

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update the parameters by their gradients, each [trials, ...]."""
        for group, members_slice in zip(self._groups, self._slices, strict=True):
            group.step([gradient[members_slice] for gradient in gradients])


def _kinds(settings: Sequence[Setting]) -> list[UpdateRule]:
    return [setting.kind for setting in settings]


class _Rule:
    """Parameters of one kind of optimizer, their settings as columns, and the state of each parameter."""

    state_tensors = 0

    def __init__(self, parameters: list[Tensor], settings: list[Setting]) -> None:
        self.parameters, self.settings, self.steps = parameters, settings, 0
        self.state = [[torch.zeros_like(parameter) for _ in range(self.state_tensors)] for parameter in parameters]

    def column(self, values: Sequence[float], like: Tensor) -> Tensor:
        """Return `values` [trials] in the type of `like` [trials, ...], rounded once, shaped to broadcast over it."""
        return torch.tensor(values, dtype=torch.float64).to(like).view(-1, *[1] * (like.dim() - 1))

    def step(self, gradients: list[Tensor]) -> None:
        self.steps += 1
        for parameter, gradient, state in zip(self.parameters, gradients, self.state, strict=True):
            self.change(parameter, gradient, *state)

    def change(self, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:
        """Update a parameter and its state by a gradient, in place."""
        raise NotImplementedError


class _Sgd(_Rule):
    state_tensors = 1

    def change(self, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:
        (velocity,) = state
        velocity.mul_(self.column([s.momentum for s in self.settings], velocity)).add_(gradient)
        parameter.sub_(velocity * self.column([s.lr for s in self.settings], velocity))


class _Adagrad(_Rule):
    """Duchi et al. 2011."""

    state_tensors = 1

    def change(self, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:
        (squares,) = state
        squares.addcmul_(gradient, gradient)
        divisor = squares.sqrt().add_(self.column([s.eps for s in self.settings], squares))
        parameter.sub_(gradient / divisor * self.column([s.lr for s in self.settings], squares))


class _Adam(_Rule):
    """Kingma and Ba 2015, algorithm 1; eps is added after the bias of the second moment is corrected."""

    state_tensors = 2

    def change(self, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:
        mean, square = state
        settings, t = self.settings, self.steps
        mean.lerp_(gradient, self.column([1 - s.beta1 for s in settings], mean))
        square.mul_(self.column([s.beta2 for s in settings], square))
        square.addcmul_(gradient * self.column([1 - s.beta2 for s in settings], square), gradient)
        divisor = square.sqrt().div_(self.column([(1 - s.beta2**t) ** 0.5 for s in settings], square))
        divisor.add_(self.column([s.eps for s in settings], square))
        parameter.sub_((mean / divisor).mul_(self.column([s.lr / (1 - s.beta1**t) for s in settings], mean)))


_RULES: dict[UpdateRule, type[_Rule]] = {"sgd": _Sgd, "adagrad": _Adagrad, "adam": _Adam}

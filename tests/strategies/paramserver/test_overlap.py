"""Pushes of gradients during backward."""

import pytest
import torch
from torch import nn

from distdl.strategies.paramserver.overlap import OverlapPusher
from distdl.strategies.paramserver.partition import Piece


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(4)) for _ in range(3)]


def test_each_server_is_pushed_once_when_its_gradients_are_complete(parameters: list[nn.Parameter]) -> None:
    pushed: list[tuple[int, list[bool]]] = []
    halves = [Piece(tensor=1, start=0, stop=2), Piece(tensor=1, start=2, stop=4)]
    assignment = [[Piece(tensor=0, start=0, stop=4), halves[0]], [halves[1], Piece(tensor=2, start=0, stop=4)]]
    OverlapPusher(
        parameters,
        assignment,
        lambda server: pushed.append((server, [parameter.grad is not None for parameter in parameters])),
    )
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = None
            parameter.sum().backward()
    assert pushed == [(0, [True, True, False]), (1, [True, True, True])] * 1 + [
        (0, [True, True, True]),
        (1, [True, True, True]),
    ]


def test_nothing_is_pushed_before_the_last_micro_batch(parameters: list[nn.Parameter]) -> None:
    pushed: list[int] = []
    pieces = [Piece(tensor=index, start=0, stop=4) for index in range(3)]
    pusher = OverlapPusher(parameters, [pieces], pushed.append)
    for last, expected in ((False, []), (False, []), (True, [0])):
        pusher.last_micro_batch = last
        sum(parameter.sum() for parameter in parameters).backward()
        assert pushed == expected

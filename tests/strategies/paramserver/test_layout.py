"""Flat buffers per server: whole tensors are views, slices are copied, and both show the same values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.partition import ASSIGNMENTS, Assignment, Piece


def whole_piece(tensor: int, size: int) -> Piece:
    return Piece(tensor=tensor, start=0, stop=size)


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    """A matrix, a vector, and an image kernel in NHWC."""
    kernel = torch.arange(16.0).view(2, 2, 2, 2).contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(torch.arange(6.0).view(2, 3)), nn.Parameter(torch.tensor([7.0, 8.0])), nn.Parameter(kernel)]


ASSIGNED: Assignment = [
    [whole_piece(1, 2), Piece(tensor=0, start=0, stop=4)],
    [Piece(tensor=0, start=4, stop=6), whole_piece(2, 16)],
]


def test_buffers_have_the_values_in_the_order_of_the_pieces(parameters: list[nn.Parameter]) -> None:
    originals = [parameter.detach().clone() for parameter in parameters]
    layout = Layout(parameters, ASSIGNED)
    assert layout.values[0].tolist() == [7, 8, 0, 1, 2, 3]
    assert layout.values[1][:2].tolist() == [4, 5]
    # A view keeps the memory order of the tensor: NHWC.
    assert layout.values[1][2:].tolist() == originals[2].permute(0, 2, 3, 1).reshape(-1).tolist()
    assert all(torch.equal(now, original) for now, original in zip(parameters, originals, strict=True))
    assert parameters[2].is_contiguous(memory_format=torch.channels_last)
    assert parameters[2].grad.stride() == parameters[2].stride()


def test_received_values_reach_the_parameters(parameters: list[nn.Parameter]) -> None:
    layout = Layout(parameters, ASSIGNED)
    for server, buffer in enumerate(layout.values):
        buffer.add_(100)
        sliced = parameters[0].detach().reshape(-1)[0 if server == 0 else 4].clone()
        layout.scatter_values(server)
        assert parameters[0].reshape(-1)[0 if server == 0 else 4] == sliced + 100
    assert parameters[0].tolist() == [[100, 101, 102], [103, 104, 105]]
    assert parameters[1].tolist() == [107, 108]
    assert parameters[2].sum() == sum(range(16)) + 1600


def test_gradients_are_written_and_copied_into_the_buffers(parameters: list[nn.Parameter]) -> None:
    layout = Layout(parameters, ASSIGNED)
    for _ in range(2):  # backward adds
        sum((parameter * parameter.detach()).sum() for parameter in parameters).backward()
    assert layout.gradients[0].tolist() == [14, 16, 0, 0, 0, 0]
    for server in range(2):
        layout.gather_gradients(server)
        assert torch.equal(layout.gradients[server], 2 * layout.values[server])
    layout.clear_gradients()
    assert not any(parameter.grad.any() for parameter in parameters)
    for server in range(2):
        layout.gather_gradients(server)
        assert not layout.gradients[server].any()


def test_loaded_values_are_gathered(parameters: list[nn.Parameter]) -> None:
    layout = Layout(parameters, ASSIGNED)
    with torch.no_grad():
        parameters[0].fill_(-1.0)
    layout.gather_values()
    assert layout.values[0].tolist() == [7, 8, -1, -1, -1, -1]


def test_a_tensor_with_gaps_is_copied() -> None:
    parameter = nn.Parameter(torch.arange(8.0).view(2, 4)[:, :2])
    layout = Layout([parameter], [[whole_piece(0, 4)]])
    assert layout.values[0].tolist() == [0, 1, 4, 5]
    layout.values[0].mul_(2)
    layout.scatter_values(0)
    assert parameter.tolist() == [[0, 2], [8, 10]]
    (parameter * 3).sum().backward()
    layout.gather_gradients(0)
    assert layout.gradients[0].tolist() == [3] * 4


def test_a_removed_gradient_fails_an_assertion(parameters: list[nn.Parameter]) -> None:
    layout = Layout(parameters, ASSIGNED)
    parameters[0].grad = None
    with pytest.raises(AssertionError, match="was set to None"):
        layout.gather_gradients(0)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=5),
    st.integers(1, 4),
    st.sampled_from(sorted(ASSIGNMENTS)),
)
def test_values_are_the_same_after_a_transfer_to_the_servers_and_back(
    shapes: list[tuple[int, int]], servers: int, how: str
) -> None:
    parameters = [nn.Parameter(torch.rand(shape)) for shape in shapes]
    originals = [parameter.detach().clone() for parameter in parameters]
    layout = Layout(parameters, ASSIGNMENTS[how]([parameter.numel() for parameter in parameters], servers))
    sent = [buffer.clone() for buffer in layout.values]
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
    for server, buffer in enumerate(sent):
        layout.values[server].copy_(buffer)
        layout.scatter_values(server)
    assert all(torch.equal(now, original) for now, original in zip(parameters, originals, strict=True))

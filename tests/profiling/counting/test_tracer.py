"""Networks with shared or frozen parameters, compilation, checkpoints, and custom functions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from distdl.profiling.counting.count import count

DENSE = 2 * 4 * 4
"""FLOPs of nn.Linear(4, 4) for one sample."""


class Block(nn.Module):
    """Two dense layers, the second one run by `how`."""

    def __init__(self, how):
        super().__init__()
        self.first, self.second, self.how = nn.Linear(4, 4), nn.Linear(4, 4), how

    def forward(self, x):
        return self.how(self.second, self.first(x))


def gradients(network):
    return [(layer.name, layer.input_grad_flops, layer.weight_grad_flops) for layer in network.layers]


PLAIN = [("first", 0, DENSE), ("second", DENSE, DENSE)]


def test_a_shared_layer_counts_flops_per_use_and_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x))

    network = count(Twice(), (4,))
    assert [layer.parameters for layer in network.layers] == [20, 0]
    assert network.forward_flops == 2 * DENSE and network.training_flops == 5 * DENSE


def test_tied_weights_are_named_after_the_layer_that_uses_them():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    network = count(Tied(), inputs=[torch.zeros(2, 3, dtype=torch.int64)])
    assert [(row.name, row.parameters) for row in network.layers] == [("embed", 40), ("head", 0)]
    assert network.forward_flops == 2 * 6 * 4 * 10


def test_a_functional_call_is_named_after_the_module_of_its_weight():
    def functional(second, x):
        return F.linear(x, second.weight, second.bias)

    assert gradients(count(Block(functional), (4,))) == PLAIN


def test_an_operation_outside_of_modules_is_named_after_its_operator():
    class Product(nn.Module):
        def forward(self, x):
            return x @ x.T

    (layer,) = count(Product(), (4,)).layers
    assert layer.name == "(mm)"


def test_frozen_layers_and_layers_before_them_have_no_gradients():
    model = Block(lambda second, x: second(x))
    model.first.requires_grad_(False)
    assert gradients(count(model, (4,))) == [("first", 0, 0), ("second", 0, DENSE)]
    model.first.requires_grad_(True)
    model.second.requires_grad_(False)
    assert gradients(count(model, (4,))) == [("first", 0, DENSE), ("second", DENSE, 0)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradient_modes_apply_inside_the_network_only(mode):
    def without(second, x):
        with mode():
            return second(x)

    assert gradients(count(Block(without), (4,))) == [("first", 0, DENSE), ("second", 0, 0)]
    with mode():
        assert gradients(count(Block(lambda second, x: second(x)), (4,))) == PLAIN


def test_compiled_networks_modules_and_functions_are_counted_uncompiled():
    @torch.compile
    def compiled(second, x):
        return second(x)

    assert gradients(count(Block(compiled), (4,))) == PLAIN
    compiled = torch.compile(Block(lambda second, x: second(x)))
    assert gradients(count(compiled, (4,))) == PLAIN
    part = Block(lambda second, x: second(x))
    part.second = torch.compile(part.second)
    assert gradients(count(part, (4,))) == PLAIN
    in_place = Block(lambda second, x: second(x))
    in_place.compile()
    assert gradients(count(in_place, (4,))) == PLAIN


def test_a_network_wrapped_for_several_devices_is_counted():
    assert gradients(count(nn.DataParallel(Block(lambda second, x: second(x))), (4,))) == PLAIN


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_warning_names_checkpoints_and_their_second_forward_is_not_counted(reentrant):
    network = count(Block(lambda second, x: checkpoint(second, x, use_reentrant=reentrant)), (4,))
    assert gradients(network) == PLAIN
    assert network.warnings == (
        (
            f"checkpointing recomputes {DENSE} FLOPs of the forward pass in backward (1 modules, the first is second), "
            "which are not in training_flops"
        ),
    )


class Square(torch.autograd.Function):
    """A function with two dense layers in its forward pass, of which torch records no graph."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return (x @ weight).relu() @ weight

    @staticmethod
    def backward(ctx, grad):
        return grad, torch.zeros_like(ctx.saved_tensors[1])


class NewStyle(torch.autograd.Function):
    @staticmethod
    def forward(x, weight):
        return x @ weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


apply_square = Square.apply


@pytest.mark.parametrize(("function", "times"), [(apply_square, 2), (NewStyle.apply, 1)])
def test_custom_autograd_functions_are_reported(function, times):
    network = count(Block(lambda second, x: function(x, second.weight)), (4,))
    assert network.forward_flops == (1 + times) * DENSE
    assert network.training_flops == 2 * DENSE + 3 * times * DENSE
    name = "Square" if times == 2 else "NewStyle"
    assert network.warnings == (
        (
            f"{name} is a custom autograd function: its forward has {times * DENSE} FLOPs, and its backward is assumed "
            "to be that of the same operators"
        ),
        "4 parameters are not used with this input; they count as parameters, without FLOPs",  # the bias of `second`
    )


def test_unused_parameters_are_rows_and_are_reported():
    network = count(Block(lambda second, x: x), (4,))
    assert network.parameters == 40
    assert network.layers[-1].name == "second"
    assert network.layers[-1].geometry["note"] == "not run at this input"
    assert network.warnings == ("20 parameters are not used with this input; they count as parameters, without FLOPs",)


def test_a_warning_names_an_operator_without_a_rule():
    torch.library.define("distdl_tests::mystery", "(Tensor x) -> Tensor")
    torch.library.register_fake("distdl_tests::mystery")(torch.empty_like)

    class Mystery(nn.Module):
        def forward(self, x):
            return torch.ops.distdl_tests.mystery(torch.linalg.solve(x.T @ x, x.T))

    assert count(Mystery(), (4,)).warnings == (
        "operator aten._linalg_solve_ex has no rule: counted as 0 FLOPs",
        "operator distdl_tests.mystery has no rule: counted as 0 FLOPs",
    )


def test_lazy_layers_are_initialized():
    network = count(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)), (3, 8, 8))
    assert network.parameters == 4 * 27 + 4 + 4 * 36 * 3 + 3


def test_plain_tensors_of_a_module_are_moved_with_it():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.mask = nn.Linear(4, 4), torch.ones(4)

        def forward(self, x):
            return self.layer(x) * self.mask + torch.arange(4)

    network = count(Masked(), (4,))
    assert [layer.kind for layer in network.layers] == ["dense", "elementwise", "elementwise"]


def test_computed_weights_have_weight_gradients():
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    network = count(nn.Sequential(normed), (4,))
    (layer,) = (layer for layer in network.layers if layer.kind == "dense")
    assert (layer.forward_flops, layer.weight_grad_flops, layer.input_grad_flops) == (DENSE, DENSE, 0)
    assert network.parameters == 4 + 16 + 4 and network.warnings == ()

"""Timing of operators: their layers, unchanged results, and sums that equal the total."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from distdl.profiling import layers, timing
from distdl.profiling.layers import OUTSIDE, OperatorTimer, measure
from distdl.profiling.timing import PassTimes, TrainingStep
from simulated_time import SimulatedTime, simulate_time


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(x + self.norm(self.conv(x)))


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Shortcut(), nn.Flatten(), nn.Linear(8 * 64, 4))


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Delays(TorchDispatchMode):
    """Makes operators take a time of a simulated clock."""

    def __init__(self, clock: SimulatedTime, seconds: Mapping[str, float]) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._clock.advance(self._seconds.get(func._schema.name, 0.0))
        return func(*args, **(kwargs or {}))


def test_the_time_of_an_operator_is_in_its_layer_and_the_layers_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = simulate_time(monkeypatch, layers, timing)
    monkeypatch.setattr(timing, "_other_processes_s", lambda: 0.0)
    forward = {"aten::convolution": 1, "aten::native_batch_norm": 2, "aten::relu_": 4, "aten::addmm": 8}
    backward = {"aten::convolution_backward": 32, "aten::native_batch_norm_backward": 64}
    backward |= {"aten::threshold_backward": 128, "aten::mm": 256, "aten::ones_like": 512}
    with Delays(clock, {**forward, **backward, "aten::add": 16}):
        measured = measure(small(), IMAGES, rounds=1)
    expected = {
        "0": PassTimes(forward_s=1, backward_s=32),
        "1.conv": PassTimes(forward_s=1, backward_s=32 + 16),  # with the sum of both gradients of x
        "1.norm": PassTimes(forward_s=2, backward_s=64),
        "1.act": PassTimes(forward_s=4, backward_s=128),
        "3": PassTimes(forward_s=8, backward_s=2 * 256),  # gradients of the input and of the weights
        "1": PassTimes(forward_s=16),  # the addition, which is not in a module of its own
        OUTSIDE: PassTimes(backward_s=512),  # the gradient with which backward begins
    }
    for times in (measured.layers, measured.naive):
        assert {name: seconds for name, seconds in times.items() if seconds.step_s} == expected
    assert measured.layer_sum == measured.total == PassTimes(forward_s=32, backward_s=1296)


def test_the_time_of_a_repeated_operator_is_that_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = simulate_time(monkeypatch, layers, timing)
    step = TrainingStep(small(), IMAGES)
    number = len(OperatorTimer(step).collect())
    with Delays(clock, {"aten::convolution": 1, "aten::addmm": 8}):
        calls = OperatorTimer(step, repeats=[4] * number).collect()
    assert [(call.layer, call.seconds) for call in calls if call.seconds] == [("0", 1), ("1.conv", 1), ("3", 8)]
    assert clock.now == 4 * (1 + 1 + 8)


@pytest.mark.parametrize("repeats", [1, 7])
def test_repetition_does_not_change_results(repeats):
    """Operators that write to their arguments, such as in-place ReLU, are repeated on copies."""
    plain, timed = small(), small()
    expected = plain(IMAGES)
    expected.backward(torch.ones_like(expected))
    step = TrainingStep(timed, IMAGES)
    number = len(OperatorTimer(step).collect())
    timed.load_state_dict(small().state_dict())
    gradients = {}
    hooks = [p.register_post_accumulate_grad_hook(lambda p, n=n: gradients.update({n: p.grad}))
             for n, p in timed.named_parameters()]  # fmt: skip
    OperatorTimer(step, repeats=[repeats] * number).collect()
    for hook in hooks:
        hook.remove()
    for name, parameter in plain.named_parameters():
        assert torch.equal(gradients[name], parameter.grad), name


def test_short_operators_are_repeated_within_one_measurement():
    step = TrainingStep(small(), IMAGES)
    calls = []
    linear = torch.ops.aten.addmm.default

    class Counting(OperatorTimer):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            def counted(*a, **k):
                calls.append(func)
                return func(*a, **k)

            counted._schema = func._schema
            return super().__torch_dispatch__(counted, types, args, kwargs)

    number = len(OperatorTimer(step).collect())
    Counting(step, repeats=[5] * number).collect()
    assert calls.count(linear) == 5


def test_gradients_are_discarded():
    model = small()
    measure(model, IMAGES, rounds=1, naive=False)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize(("name", "batch"), [("resnet18", 8), ("alexnet", 16), ("vgg11", 4)])
def test_layers_add_up_to_the_step(name, batch):
    import torchvision

    model = torchvision.models.get_model(name)
    measured = measure(model, torch.randn(batch, 3, 224, 224), rounds=5)
    assert measured.layer_sum.step_s == pytest.approx(measured.total.step_s, rel=0.05)

"""Timing of operators: their layers, unchanged results, and sums that equal the total."""

import pytest
import torch
from torch import nn

from distdl.profiling.layers import OUTSIDE, OperatorTimer, measure
from distdl.profiling.timing import TrainingStep


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


def test_every_layer_has_forward_and_backward_times():
    measured = measure(small(), IMAGES, rounds=1)
    for name in ("0", "1.conv", "1.norm", "1.act", "3"):
        assert measured.layers[name].forward_s > 0, name
        assert measured.layers[name].backward_s > 0, name
        assert measured.naive[name].step_s > 0, name
    assert measured.layers["1"].forward_s > 0  # the addition, which is not in a module of its own
    assert measured.layers[OUTSIDE].backward_s > 0  # the sum of both gradients of x
    assert measured.layer_sum.step_s == pytest.approx(sum(seconds.step_s for seconds in measured.layers.values()))
    assert measured.total.forward_s > 0 and measured.total.backward_s > 0


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

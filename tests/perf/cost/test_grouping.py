from distdl.perf.cost.grouping import by_kind, by_module
from distdl.perf.cost.layers import Layer, Network


def layer(name: str, kind: str, flops: int, parameters: int = 0) -> Layer:
    return Layer(
        name=name, kind=kind, input_shape=(1,), output_shape=(1,), parameters=parameters, forward_flops=flops,
        weight_grad_flops=flops, read_bytes=6, write_bytes=4,
    )  # fmt: skip


NETWORK = Network(
    model="a", input=(1,), batch=1,
    layers=(
        layer("stem", "conv", 20, 5), layer("stage.0.conv", "conv", 30), layer("stage.0.fc", "dense", 10),
        layer("(add)", "elementwise", 0), layer("stage.1.conv", "conv", 40),
    ),
)  # fmt: skip


def test_kinds_are_sorted_by_their_share():
    conv, dense, elementwise = by_kind(NETWORK)
    assert (conv.name, conv.layers, conv.forward_flops, conv.forward_share) == ("conv", 3, 90, 0.9)
    assert (dense.name, dense.weight_grad_flops, dense.training_flops) == ("dense", 10, 20)
    assert (elementwise.name, elementwise.forward_share, elementwise.intensity) == ("elementwise", 0.0, 0.0)
    assert conv.intensity == 90 / 30 and conv.parameters == 5


def test_modules_are_in_order_before_their_parts():
    groups = {group.name: group for group in by_module(NETWORK)}
    assert list(groups) == ["stem", "stage", "stage.0", "stage.1", "(add)"]
    assert groups["stage"].forward_flops == 80 and groups["stage"].layers == 3
    assert groups["stage.0"].forward_flops == 40


def test_a_network_without_work_has_no_shares():
    nothing = Network(model="a", input=(1,), batch=1, layers=(layer("a", "other", 0),))
    assert by_kind(nothing)[0].forward_share == 0.0

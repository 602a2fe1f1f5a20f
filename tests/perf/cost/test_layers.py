"""Sums over the layers of a network, and its JSON object."""

from distdl.perf.cost.layers import Layer, Network


def layer(name: str, parameters: int, forward: int) -> Layer:
    return Layer(
        name=name,
        kind="dense",
        input_shape=(4, 3),
        output_shape=(4, 2),
        parameters=parameters,
        forward_flops=forward,
        input_grad_flops=2 * forward,
        weight_grad_flops=3 * forward,
        read_bytes=forward // 4,
        write_bytes=forward // 4,
    )


NETWORK = Network(model="two", input=(3,), batch=4, layers=(layer("a", 8, 40), layer("b", 2, 60)), warnings=("w",))


def test_totals_are_sums_over_layers() -> None:
    assert (NETWORK.parameters, NETWORK.forward_flops, NETWORK.training_flops) == (10, 100, 600)


def test_the_intensity_is_flops_per_byte_read_or_written() -> None:
    assert NETWORK.layers[0].intensity == 40 / (10 + 10)
    assert Layer(name="", kind="other", input_shape=(), output_shape=(), forward_flops=5).intensity == 0


def test_the_object_has_totals_and_layers() -> None:
    table = NETWORK.as_dict()
    layers = table.pop("layers")
    assert table == {
        "model": "two",
        "input": [3],
        "batch": 4,
        "parameters": 10,
        "forward_flops": 100,
        "training_flops": 600,
        "warnings": ["w"],
    }
    assert [(each["name"], each["training_flops"], each["intensity"]) for each in layers] == [
        ("a", 240, 2),
        ("b", 360, 2),
    ]

"""PALEO compared with its published figures and those of Lu et al., and defects of other implementations."""

import json
from dataclasses import replace

import pytest
import torchvision
from torch import nn

from distdl.cli import __main__ as cli
from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.perf.cost import paleo
from distdl.perf.cost.conventions import lu2017
from distdl.perf.cost.layers import Layer
from distdl.profiling import published_networks
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless
from distdl.profiling.published_networks import alexnet_of_paleo, nin_of_paleo


def counted(make, batch=1, **options):
    with weightless():
        network = make()
    return count(network, batch=batch, **options)


K80 = paleo.Platform(device=hardware.device("k80"))


# Published figures


@pytest.mark.parametrize(("workers", "batch", "published"), [(32, 256, 15.5), (32, 1024, 25.3), (128, 1024, 51.6)])
def test_nin_on_k20x_over_infiniband_matches_published_times(workers, batch, published):
    network = paleo.fused(counted(nin_of_paleo, batch))
    platform = paleo.Platform(device=hardware.device("k20x"), ppp=0.21)
    cluster = paleo.Cluster(link=hardware.network("infiniband"), scheme="tree", ppp=0.56)
    steps = paleo.scale(network, platform, [workers], cluster, "strong")
    assert paleo.speedups(network, platform, steps)[0] == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(("workers", "published"), [(2, 1.94), (4, 3.79), (8, 6.70)])
def test_alexnet_hybrid_on_k20_over_pcie_matches_published_times(workers, published):
    network = paleo.fused(counted(alexnet_of_paleo, 128))
    platform = paleo.Platform(device=hardware.device("k20"), ppp=0.46)
    cluster = paleo.Cluster(link=hardware.network("pcie2"), scheme="tree", ppp=0.75, parallel="hybrid")
    steps = paleo.scale(network, platform, [workers], cluster, "weak")
    assert paleo.speedups(network, platform, steps)[0] == pytest.approx(published, rel=0.02)


LU = [
    # forward at the K80's 8.73 TFLOPS: ms, images/s
    (torchvision.models.vgg16, 1.776, 563), (published_networks.googlenet_caffe, 0.184, 5436),
    (lambda: published_networks.resnet_caffe(50), 0.449, 2226),
]  # fmt: skip


@pytest.mark.parametrize(("make", "milliseconds", "images_per_s"), LU)
def test_k80_times_match_lu_et_al(make, milliseconds, images_per_s):
    network = counted(make)
    peak = hardware.device("k80-board").flops_per_s("fp32")
    seconds = lu2017(network).forward_flops / peak
    assert 1e3 * seconds == pytest.approx(milliseconds, abs=0.0006)
    assert 1 / seconds == pytest.approx(images_per_s, rel=0.001)
    # With 2 FLOPs per multiply-add, as in the peak, it takes twice as long, except for biases, ReLUs and pools.
    assert 1e3 * network.forward_flops / peak == pytest.approx(2 * milliseconds, rel=0.03)


# The model


def test_a_convolution_matches_hand_calculation():
    network = counted(lambda: nn.Conv2d(8, 16, 3, padding=1, bias=False), 4, input_shape=(8, 10, 10))
    x, w, y = 4 * 4 * 800, 4 * 1152, 4 * 4 * 1600
    flops = 2 * 1152 * 4 * 100
    moved, peak = 240e9 * 0.5, 4.37e12 * 0.5
    (layer,) = paleo.layer_times(network, paleo.Platform(device=hardware.device("k80"), ppp=0.5))
    assert layer.forward.read_s == pytest.approx((x + w) / moved)
    assert layer.forward.compute_s == pytest.approx(flops / peak)
    assert layer.forward.write_s == pytest.approx(y / moved)
    assert layer.forward.total_s == pytest.approx((x + w + y) / moved + flops / peak)
    # A first layer has no input gradient: backward is one product of the same tensors.
    assert layer.backward.total_s == pytest.approx(layer.forward.total_s)


def test_a_pipelined_device_takes_the_maximum_of_compute_and_memory():
    network = counted(torchvision.models.alexnet, 4)
    for layer in paleo.layer_times(network, paleo.Platform(device=hardware.device("k80"), pipelined=True)):
        moved = layer.forward.read_s + layer.forward.write_s
        assert layer.forward.total_s == max(layer.forward.compute_s, moved)


def test_batch_size_scales_activations_and_work_but_not_weights():
    once = counted(torchvision.models.resnet18, 12)
    grown = paleo.at_batch(counted(torchvision.models.resnet18, 3), 12)
    for layer, other in zip(once.layers, grown.layers, strict=True):
        assert (layer.forward_flops, layer.input_grad_flops, layer.write_bytes) == (
            other.forward_flops, other.input_grad_flops, other.write_bytes,
        )  # fmt: skip
        assert other.read_bytes == pytest.approx(layer.read_bytes, rel=0.02)
        assert other.output_shape == layer.output_shape


def test_half_precision_moves_half_the_bytes_and_has_its_own_peak():
    network = counted(torchvision.models.resnet18)
    device = hardware.device("a100-40gb")
    full = paleo.layer_times(network, paleo.Platform(device=device))[0].forward
    half = paleo.layer_times(network, paleo.Platform(device=device, precision="bf16"))[0].forward
    assert half.read_s == pytest.approx(full.read_s / 2)
    assert half.compute_s == pytest.approx(full.compute_s * 19.5 / 312)


def test_weak_scaling_keeps_and_strong_scaling_divides_the_batch():
    network = counted(torchvision.models.alexnet, 100)
    cluster = paleo.Cluster(link=hardware.network("10gbe"))
    weak, strong = (paleo.scale(network, K80, [8], cluster, scaling)[0] for scaling in ("weak", "strong"))
    assert weak.batch == 800 and strong.batch == 100
    assert weak.forward_s == pytest.approx(paleo.step(network, K80).forward_s)
    assert strong.forward_s == pytest.approx(paleo.step(paleo.at_batch(network, 13), K80).forward_s)  # ceil(100 / 8)


def test_hybrid_parallelism_exchanges_less_than_data_parallelism():
    network = counted(torchvision.models.alexnet, 16)
    link = hardware.network("10gbe")
    data, model, hybrid = (
        paleo.step(network, K80, 4, paleo.Cluster(link=link, parallel=kind)) for kind in ("data", "model", "hybrid")
    )
    assert data.exchange_s > hybrid.exchange_s  # dense layers hold most of AlexNet's weights
    assert model.update_s == pytest.approx(data.update_s / 4)
    alone = paleo.step(network, K80)
    assert alone.exchange_s == 0 and data.forward_s == alone.forward_s


def test_memory_includes_weights_and_activations():
    network = counted(torchvision.models.vgg16, 8)
    weights = 3 * 4 * network.parameters
    assert paleo.memory_bytes(network) > weights
    assert paleo.memory_bytes(paleo.at_batch(network, 16)) - weights == 2 * (paleo.memory_bytes(network) - weights)


# Known defects of other implementations


def test_every_convolution_has_a_positive_time():
    network = counted(torchvision.models.vgg16)
    times = paleo.layer_times(network, K80)
    assert all(time.forward.total_s > 0 and time.backward.total_s > 0 for time in times if time.kind == "conv")


def test_a_dense_layer_written_as_a_convolution_costs_the_same():
    shape = (256, 5, 5)
    as_conv = counted(lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(256, 4096, 5)), 16, input_shape=shape)
    dense = counted(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6400, 4096)), 16, input_shape=shape)
    (conv,) = (layer for layer in paleo.layer_times(as_conv, K80) if layer.kind == "conv")
    (linear,) = (layer for layer in paleo.layer_times(dense, K80) if layer.kind == "dense")
    assert conv.forward.total_s == pytest.approx(linear.forward.total_s)
    assert conv.backward.total_s <= 2 * conv.forward.total_s  # 26 times in another implementation


def test_grouped_convolutions_cost_twice_their_forward_in_backward():
    network = counted(
        lambda: nn.Sequential(nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, groups=64)), 2, input_shape=(64, 9, 9)
    )
    grouped = network.layers[1]
    assert (
        grouped.input_grad_flops + grouped.weight_grad_flops == 2 * grouped.forward_flops
    )  # 65 times in another implementation


def test_units_are_decimal():
    device = hardware.Device(name="one", bandwidth_gb_per_s=1, peak_tflops={"fp32": 1})
    assert paleo.Platform(device=device).time(paleo.PassWork(read_bytes=1e9)).read_s == 1
    assert hardware.NetworkLink(name="one", bandwidth_gbit_per_s=8).bytes_per_s == 1e9


def test_all_layers_of_a_vision_transformer_are_counted():
    network = counted(torchvision.models.vit_b_16)
    times = paleo.layer_times(network, K80)
    assert sum(time.forward.compute_s for time in times) == pytest.approx(2 * 17.564e9 / 4.37e12, rel=0.001)


# The command


def run(capsys, *arguments):
    assert cli.main(["paleo", *arguments]) == 0
    return capsys.readouterr().out


def test_json_output(capsys):
    printed = json.loads(run(capsys, "alexnet", "--device", "k80", "--batch", "16", "--ppp", "0.62", "--json",
                           "--workers", "1,4", "--network", "1gbe", "--scheme", "tree"))  # fmt: skip
    assert printed["model"] == "alexnet" and printed["batch"] == 16
    assert printed["step_s"] == pytest.approx(printed["forward_s"] + printed["backward_s"] + printed["update_s"])
    assert sum(layer["forward"]["total_s"] for layer in printed["layers"]) == pytest.approx(printed["forward_s"])
    assert [step["workers"] for step in printed["scaling"]] == [1, 4]
    assert printed["scaling"][0]["speedup"] == pytest.approx(1)
    assert printed["scaling"][1]["exchange_s"] == pytest.approx(4 * 61_100_840 * 4 / 0.125e9 + 4 * 50e-6)


def test_table_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run(capsys, "resnet18", "--device", "t4", "--workers", "1,2,1024")
    table = [line for line in out.splitlines() if line.startswith(("layer", "workers", "…", " "))]
    assert table and max(map(len, table)) <= 80
    assert "1024" in out and "does not fit" not in out


def test_the_figure_is_written(capsys, tmp_path):
    run(capsys, "alexnet", "--device", "k80", "--figure", str(tmp_path / "scaling.png"))
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alexnet", "--device", "k8o"], 'did you mean "k80"'),
        (["alexnet", "--device", "k80", "--precision", "bf16"], "no peak for bf16"),
        (["alexnet", "--device", "k80", "--ppp", "62"], "--ppp = 62: must be at most 1"),
        (["alexnet", "--device", "k80", "--workers", "two"], "not a list of numbers"),
        (["alexnet", "--device", "k80", "--workers", "0"], "at least 1"),
        (["alexnet", "--device", "k80", "--network", "10gb"], 'did you mean "10gbe"'),
        (["alexnet", "--device", "k80", "--figure", "x.txt"], "is not one of"),
        (["alexnett", "--device", "k80"], 'did you mean "alexnet"'),
    ],
)
def test_bad_input_is_refused(capsys, arguments, message):
    assert cli.main(["paleo", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_ppp_out_of_range_is_refused():
    with pytest.raises(UserError, match="between 0 and 1"):
        paleo.Platform(device=hardware.device("k80"), ppp=0)


# Work of single layers, by hand


def layer(kind, **fields):
    return Layer(name="a", kind=kind, input_shape=(2, 3), output_shape=(2, 5), **fields)


DENSE = layer("dense", parameters=15, forward_flops=60, input_grad_flops=60, weight_grad_flops=60,
              read_bytes=84, write_bytes=40, geometry={"in_features": 3, "out_features": 5})  # fmt: skip
"""3 inputs and 5 outputs for 2 samples, in fp32: 24 B of inputs, 60 B of weights, 40 B of outputs."""


def test_work_of_a_layer_with_a_product():
    forward, backward = paleo.work(DENSE, 4)
    assert forward == paleo.PassWork(flops=60, read_bytes=84, write_bytes=40)
    assert backward == paleo.PassWork(flops=120, read_bytes=(40 + 60) + (40 + 24), write_bytes=24 + 60)
    first = replace(DENSE, input_grad_flops=0)
    assert paleo.work(first, 4)[1] == paleo.PassWork(flops=60, read_bytes=40 + 24, write_bytes=60)


def test_a_part_of_a_layer_reads_the_inputs_of_all_workers_and_its_own_weights():
    part = paleo._part(DENSE, 4, 4)
    assert part == replace(DENSE, read_bytes=4 * 24 + 60 // 4)
    pool = layer("pool", read_bytes=24, write_bytes=40)
    assert paleo._part(pool, 4, 4) is pool


def test_work_of_a_layer_without_a_product():
    forward, backward = paleo.work(layer("pool", read_bytes=24, write_bytes=40), 4)
    assert forward == paleo.PassWork(read_bytes=24, write_bytes=40)
    assert backward == paleo.PassWork(read_bytes=40 + 24, write_bytes=24)
    assert paleo.work(layer("other", write_bytes=40), 4)[1] == paleo.PassWork()

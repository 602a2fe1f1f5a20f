"""`distdl calibrate` and `distdl profile` on this machine with few layers and small images."""

import json

import pytest
import torch
from torch import nn

from distdl.cli import __main__ as cli
from distdl.cli import calibrate as calibrate_command
from distdl.perf import hardware
from distdl.perf.cost import calibration
from distdl.profiling import probe_networks as probes


@pytest.fixture
def few_layers(monkeypatch):
    """Replace the calibrated layers by a small set."""

    def small():
        return nn.Sequential(
            *probes.conv(3, 16), *probes.conv(16, 32, 1), *probes.conv(32, 32, groups=32), nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip

    monkeypatch.setattr(calibrate_command, "PROBES", {"small": (small, 48)})


def test_calibrate_writes_a_device_that_paleo_reads(few_layers, tmp_path, capsys):
    file = tmp_path / "machine.toml"
    assert cli.main(["calibrate", str(file), "--on", "cpu", "--rounds", "1", "--batches", "2", "3"]) == 0
    assert "PPP" in capsys.readouterr().out
    device = hardware.device(str(file))
    assert device.flops_per_s("fp32") > 1e8 and device.bytes_per_s > 1e7
    assert 0 < device.calibration["fp32"]["ppp"] < 1
    stored = calibration.stored(device, "fp32")
    assert {kind for coefficient in stored.form for kind in coefficient.kinds} >= {
        "conv",
        "pointwise",
        "depthwise",
        "dense",
        "norm",
    }
    assert cli.main(["paleo", "resnet18", "--device", str(file), "--batch", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["calibrated"] and printed["forward_s"] > 0
    assert cli.main(["paleo", "resnet18", "--device", str(file), "--batch", "2", "--ppp", "0.5", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["calibrated"]


def test_calibrate_keeps_other_precisions_of_a_file(few_layers, tmp_path):
    file = tmp_path / "machine.toml"
    for precision in ("fp32", "bf16"):
        arguments = ["calibrate", str(file), "--on", "cpu", "--rounds", "1", "--batches", "2", "--precision", precision]
        assert cli.main(arguments) == 0
    device = hardware.device(str(file))
    assert set(device.peak_tflops) == set(device.calibration) == {"fp32", "bf16"}


def test_calibrate_requires_a_toml_file(capsys):
    assert cli.main(["calibrate", "machine.json"]) == 2
    assert 'ending ".toml"' in capsys.readouterr().err


def test_all_probes_run_and_none_is_a_published_network():
    from torchvision import models

    published = set(models.list_models())
    for name, (make, size) in probes.PROBES.items():
        assert name not in published
        make()
        assert size >= 128


def test_profile_as_json(capsys):
    assert cli.main(["profile", "resnet20", "--batch", "2", "--on", "cpu", "--rounds", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = {layer["name"]: layer for layer in printed["layers"]}
    convolutions = [row for name, row in rows.items() if "conv" in name]
    assert len(convolutions) >= 19
    assert all(row["forward_s"] > 0 and row["predicted"]["forward_s"] > 0 for row in convolutions)
    assert printed["layer_sum"]["forward_s"] == pytest.approx(sum(row["forward_s"] for row in rows.values()))
    assert printed["total"]["backward_s"] > 0 and printed["naive_sum"]["forward_s"] > 0


def test_profile_as_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["profile", "digits-cnn", "--batch", "2", "--on", "cpu", "--rounds", "1", "--device", "t4"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("sum of layers", "naive sum", "measured", "PALEO"))
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet2o"], "is not a known network"),
        (["resnet20", "--rounds", "0"], "--rounds = 0: must be greater than 0"),
        (["resnet20", "--device", "t5"], "is not known"),
    ],
)  # fmt: skip
def test_invalid_input_of_profile_is_refused(capsys, arguments, message):
    assert cli.main(["profile", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "dtype", "tf32"),
    [("fp32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False),
     ("fp16", torch.float16, False)],
)  # fmt: skip
def test_the_arithmetic_of_a_precision(precision, dtype, tf32):
    previous = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        with calibrate_command.arithmetic(torch.device("cpu"), precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        assert (torch.get_float32_matmul_precision() == "high", torch.backends.cudnn.allow_tf32) == (tf32, tf32)
    finally:
        torch.set_float32_matmul_precision(previous[0])
        torch.backends.cudnn.allow_tf32 = previous[1]


def test_a_calibrated_gpu_is_recognized_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "GPU 7")
    gpu = calibrate_command._device(tmp_path / "none.toml", torch.device("cuda", 0), "bf16", 5e12, 6e9)
    assert (gpu.name, gpu.names) == ("GPU 7", ("GPU 7",))
    assert (gpu.bandwidth_gb_per_s, dict(gpu.peak_tflops)) == (6, {"bf16": 5})
    cpu = calibrate_command._device(tmp_path / "none.toml", torch.device("cpu"), "fp32", 5e12, 6e9)
    assert (cpu.name, cpu.names) == ("processor", ())

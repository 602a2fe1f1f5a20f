"""Devices and networks: units, data sheets, bad input."""

import pytest

from distdl.core.errors import UserError
from distdl.perf import hardware

PEAKS = {
    # dense TFLOPS, GB/s
    "k20": ({"fp32": 3.52}, 208), "k20x": ({"fp32": 3.935}, 250), "k40": ({"fp32": 4.29}, 288),
    "k80": ({"fp32": 4.37}, 240), "titan-x-maxwell": ({"fp32": 6.144}, 336.5),
    "titan-x-pascal": ({"fp32": 10.16}, 480), "p100-pcie": ({"fp32": 9.3, "fp16": 18.7}, 732),
    "p100-sxm2": ({"fp32": 10.6, "fp16": 21.2}, 732), "v100-pcie": ({"fp32": 14, "fp16": 112}, 900),
    "v100-sxm2": ({"fp32": 15.7, "fp16": 125}, 900), "t4": ({"fp32": 8.1, "fp16": 65}, 320),
    "a100-40gb": ({"fp32": 19.5, "tf32": 156, "bf16": 312}, 1555), "a100-80gb-pcie": ({"bf16": 312}, 1935),
    "a100-80gb-sxm": ({"bf16": 312}, 2039), "h100-sxm": ({"fp32": 66.9, "tf32": 494.7, "bf16": 989.4}, 3350),
    "h100-pcie": ({"fp32": 51, "tf32": 378, "bf16": 756}, 2000), "h200": ({"fp32": 66.9, "bf16": 989.4}, 4800),
    "b200": ({"fp32": 75, "bf16": 2250}, 7700), "rtx3090": ({"fp32": 35.6, "fp16": 71}, 936),
    "rtx4090": ({"fp32": 82.6, "fp16": 165}, 1008),
}  # fmt: skip


@pytest.mark.parametrize("name", PEAKS)
def test_devices_match_their_data_sheets(name):
    peaks, bandwidth = PEAKS[name]
    device = hardware.device(name)
    assert device.bytes_per_s == bandwidth * 1e9
    for precision, tflops in peaks.items():
        assert device.flops_per_s(precision) == tflops * 1e12


def test_all_included_devices_and_networks_are_read():
    assert set(PEAKS) <= set(hardware.names("devices"))
    for name in hardware.names("devices"):
        assert hardware.device(name).flops_per_s("fp32") > 0
    for name in hardware.names("networks"):
        assert hardware.network(name).bytes_per_s > 0


def test_network_units_are_converted():
    link = hardware.network("10gbe")
    assert link.bytes_per_s == 1.25e9
    assert link.latency_s == pytest.approx(30e-6)


def test_devices_are_recognized_by_their_driver_names():
    assert hardware.recognize("NVIDIA A100-SXM4-80GB") == hardware.device("a100-80gb-sxm")
    assert hardware.recognize("Graphics Device 9000") is None


def test_no_driver_name_belongs_to_two_devices():
    every = [name for sheet in hardware.names("devices") for name in hardware.device(sheet).names]
    assert len(every) == len(set(every))


def test_a_precision_without_a_peak_is_refused():
    with pytest.raises(UserError, match=r"no peak for bf16: known are fp32"):
        hardware.device("k80").flops_per_s("bf16")


@pytest.mark.parametrize(
    ("typed", "suggestion"), [("k8o", "k80"), ("h10", "h100-pcie"), ("A100-80gb-sxn", "a100-80gb-sxm")]
)
def test_an_unknown_device_is_an_error_with_a_suggestion(typed, suggestion):
    with pytest.raises(UserError, match=f'did you mean "{suggestion}"'):
        hardware.device(typed)


def test_a_users_device_file_is_read(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nbandwidth_gb_per_s = 50\n[peak_tflops]\nfp32 = 1.5\n')
    assert hardware.device(str(file)).flops_per_s("fp32") == 1.5e12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nbandwidth_gb_per_s = 50\n', "missing .*peak_tflops"),
        ('name = "x"\nbandwidth_gb_per_s = -1\n[peak_tflops]\nfp32 = 1\n', "bandwidth_gb_per_s must be .* above 0"),
        ('name = "x"\nbandwidth_gb_per_s = 1\n[peak_tflops]\nfp8 = 1\n', '"fp8" is not one of'),
        ('name = "x"\nbandwith_gb_per_s = 1\n[peak_tflops]\nfp32 = 1\n', 'did you mean "bandwidth_gb_per_s"'),
        ("name = ", "is not TOML"),
    ],
)
def test_an_invalid_device_file_is_refused(tmp_path, text, message):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        hardware.device(str(file))


def test_a_missing_device_file_is_refused():
    with pytest.raises(UserError, match="there is no file"):
        hardware.network("./none.toml")

"""Sentences that explain a run's waterfall."""

from typing import Any

import pytest

from distdl.perf.usage.explain import sentences
from distdl.perf.usage.waterfall import waterfall
from example_result import KNOWN, RUN

USED = {"device": "toy", "precision": "bf16", "busy": 0.97, "tensor_active": 0.31, "ppp_by_kind": {"conv": 0.62}}


def lines(result: dict[str, Any]) -> list[str]:
    return sentences(waterfall(result), result)


def test_mfu_and_remedy_of_a_known_device() -> None:
    assert lines(RUN | KNOWN | {"utilisation": USED}) == [
        "1.22 TFLOP/s achieved in training, MFU 24.4% of 5 TFLOP/s (toy, bf16, dense).",
        "Device counters: busy 97%, tensor active 31%.",
        "Percent of peak by kind of layer: conv 62.0%.",
        "The largest loss is kernels, 25.0%: kernels above that bound.",
        "Remedy: --compute.precision bf16 --compute.channels-last --compute.compile.",
    ]


def test_an_unknown_device_has_no_mfu_sentence() -> None:
    achieved, *_, profile = lines(RUN | {"flops_per_step": 1e12})
    assert achieved == "1.22 TFLOP/s achieved in training, the peak of the device is not known."
    assert profile == "Run with --telemetry.profile-steps 5 to separate kernel time from the gaps between kernels."


def test_without_flops_no_speed_is_stated() -> None:
    assert lines(RUN)[0].startswith("The largest loss is start, 11.0%")


def test_replayed_compute_is_stated_first() -> None:
    assert lines(RUN | KNOWN | {"ps": {"replayed": True}})[0].startswith("Compute was replayed")


@pytest.mark.parametrize(
    ("device", "busy", "mentioned"), [("cpu", 0.5, True), ("cpu", 0.4, False), ("cuda", 1.8, False)]
)
def test_busy_cores_are_mentioned_for_a_cpu(device: str, busy: float, mentioned: bool) -> None:
    text = " ".join(lines(RUN | {"device": device, "cores_busy_at_start": busy}))
    assert (f"Other programs kept {busy} cores busy" in text) == mentioned

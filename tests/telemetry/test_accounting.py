"""Totals of a run, compared with hand calculations."""

import pytest

from distdl.telemetry.accounting import account

FACTS = {"seconds": 100.0, "devices": 2, "epochs": 3.0, "images": 1000}


def gpu(time_s: float, device: str = "GPU-0", **fields) -> dict:
    return {
        "time_s": time_s,
        "step": 0,
        "epoch": 0,
        "kind": "nvml",
        "device": device,
        "energy_from": "counter",
    } | fields


def host(time_s: float, **fields) -> dict:
    return {"time_s": time_s, "step": 0, "epoch": 0, "kind": "host", **fields}


def test_device_seconds_and_cost():
    used = account([], **FACTS, price_per_hour=1.8)
    assert (used.device_seconds, used.epochs) == (200, 3)
    assert used.cost == pytest.approx(200 / 3600 * 1.8)
    assert account([], **FACTS).cost is None


def test_unmeasured_quantities_are_none():
    used = account([], **FACTS)
    assert (used.energy_j, used.energy_j_per_image, used.idle_share, used.idle_of) == (None, None, None, None)
    assert used.devices_sampled == 0
    assert account([gpu(0), gpu(1)], **FACTS).energy_j is None


def test_energy_of_two_devices():
    rows = [gpu(0, energy_j=0), gpu(1, energy_j=250), gpu(0, "GPU-1", energy_j=0), gpu(1, "GPU-1", energy_j=50)]
    used = account(rows, **FACTS)
    assert (used.energy_j, used.energy_from, used.devices_sampled) == (300, "counter", 2)
    assert used.energy_j_per_image == 0.3


def test_energy_of_a_resumed_run_includes_both_starts():
    rows = [gpu(0, energy_j=0), gpu(5, energy_j=400), gpu(60, energy_j=0), gpu(65, energy_j=100)]
    assert account(rows, **FACTS).energy_j == 500
    # the first sample of the second start is above the last one of the first start
    rows = [gpu(0, energy_j=0), gpu(5, energy_j=400), gpu(60, energy_j=30), gpu(65, energy_j=100)]
    assert account(rows, **FACTS).energy_j == 500


def test_slices_divide_the_energy_of_their_gpu():
    rows = [gpu(t, f"MIG-{s}", gpu="GPU-0", energy_j=e) for s in "ab" for t, e in ((0, 0.0), (1, 250.0))]
    used = account(rows, **FACTS)
    assert (used.energy_j, used.devices_sampled) == (250, 2)


def test_equal_uuids_on_two_hosts_are_two_devices():
    rows = [gpu(t, energy_j=e, host=h) for h in ("a", "b") for t, e in ((0, 0.0), (1, 10.0))]
    assert account(rows, **FACTS).energy_j == 20


def test_a_device_that_two_ranks_sampled_counts_once():
    rows = [gpu(t, energy_j=e, busy_percent=50, rank=r) for r in (0, 1) for t, e in ((0, 0.0), (1, 10.0))]
    assert account(rows, **FACTS).energy_j == 10


def test_energy_from_two_sources_is_marked():
    rows = [gpu(0, energy_j=0), gpu(1, energy_j=5)]
    rows += [gpu(t, "GPU-1", energy_j=e, energy_from="power") for t, e in ((0, 0.0), (1, 7.0))]
    used = account(rows, **FACTS)
    assert (used.energy_j, used.energy_from) == (12, "counter+power")


def test_idle_share_is_weighted_by_time():
    rows = [gpu(0, busy_percent=0), gpu(1, busy_percent=100), gpu(4, busy_percent=50)]
    used = account(rows[::-1], **FACTS)
    assert used.idle_share == pytest.approx((1 * 0 + 3 * 0.5) / 4)
    assert used.idle_of == "gpu"


def test_the_time_between_two_starts_is_not_idle():
    rows = [gpu(t, busy_percent=80, pid=pid) for pid, t in ((1, 0), (1, 2), (2, 9000), (2, 9002))]
    rows[2]["busy_percent"] = 0
    assert account(rows, **FACTS).idle_share == pytest.approx(0.2)


def test_without_a_gpu_the_idle_share_is_that_of_the_cores():
    used = account([host(0, cpu_percent=10), host(2, cpu_percent=75)], **FACTS)
    assert (used.idle_share, used.idle_of) == (0.25, "cpu")


def test_a_gpu_without_utilization_has_no_idle_share():
    used = account([gpu(0), gpu(1), host(0, cpu_percent=10), host(2, cpu_percent=75)], **FACTS)
    assert (used.idle_share, used.idle_of) == (None, None)


def test_other_rows_and_lost_devices_are_ignored():
    rows = [gpu(0, energy_j=0), gpu(1, energy_j=9), gpu(2, error="lost: GPU is lost")]
    rows += [{"time_s": 1.0, "step": 1, "epoch": 0, "kind": "layers"}]
    assert account(rows, **FACTS).energy_j == 9

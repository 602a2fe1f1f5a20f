"""Totals of a run from its telemetry rows, compared with hand calculations, and invalid rows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.config import ComputeConfig, DataConfig, TelemetryConfig
from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.training.events import Callback
from distdl.training.summary import outcome, telemetry_rows


class Messages(Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, trainer: object, message: str) -> None:
        self.texts.append(message)


def write(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def host(time_s: float, cpu_percent: float) -> dict[str, Any]:
    return {"time_s": time_s, "step": 1, "epoch": 0, "kind": "host", "host": "a", "cpu_percent": cpu_percent}


def gpu(time_s: float, energy_j: float, **values: Any) -> dict[str, Any]:
    row = {"time_s": time_s, "step": 1, "epoch": 0, "kind": "nvml", "host": "a", "device": 0}
    return row | {"energy_j": energy_j, "energy_from": "counter", "busy_percent": 75.0, **values}


def test_rows_of_all_hosts_are_read(tmp_path: Path) -> None:
    assert telemetry_rows(tmp_path) == []
    write(tmp_path, "telemetry.jsonl", {"n": 1}, {"n": 2})
    write(tmp_path, "telemetry-b.jsonl", {"n": 0})
    write(tmp_path, "metrics.jsonl", {"n": 3})
    assert [row["n"] for row in telemetry_rows(tmp_path)] == [0, 1, 2]


def test_times_energy_and_cost_of_a_run(make: Callable) -> None:
    trainer = make(telemetry=TelemetryConfig(hz=0.0, price_per_hour=3.6))
    trainer.seconds.update(start=1.5, warm=2.5)
    trainer.progress.images = 1000
    rows = [gpu(0.0, 0.0), gpu(10.0, 500.0), gpu(20.0, 900.0), host(0.0, 10.0), host(20.0, 10.0)]
    write(trainer.run.path, "telemetry.jsonl", *rows)
    values = outcome(trainer, held_s=100.0)
    assert (values["start_s"], values["warm_s"], values["held_s"]) == (1.5, 2.5, 100.0)
    assert values["cores_busy_at_start"] >= 0
    assert values["device_seconds"] == 100.0
    assert values["cost"] == pytest.approx(0.1)
    assert (values["energy_j"], values["energy_j_per_image"], values["energy_from"]) == (900.0, 0.9, "counter")
    assert (values["devices_sampled"], values["idle_of"]) == (1, "gpu")
    assert values["idle_share"] == pytest.approx(0.25)
    assert "epochs" not in values  # the result already has the number of epochs
    assert values["utilisation"]["busy"] == 0.75
    assert values["utilisation"]["precision"] == "fp32" and values["utilisation"]["device"] is None


def test_times_are_of_all_devices_and_flops_of_one(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(telemetry=TelemetryConfig(hz=0.0), data=DataConfig(global_batch=64))
    alone = outcome(trainer, held_s=100.0)
    monkeypatch.setattr(trainer, "world", replace(trainer.world, size=2))
    shared = outcome(trainer, held_s=100.0)
    assert (alone["device_seconds"], shared["device_seconds"]) == (100.0, 200.0)
    assert shared["flops_per_step"] == pytest.approx(alone["flops_per_step"] / 2, rel=0.02)


def test_the_flops_of_a_step_match_hand_calculation(make: Callable) -> None:
    """Softmax regression of 32 images: 2 x 64 x 10 FLOPs forward, the same for the gradient of the weights."""
    values = outcome(make(compute=ComputeConfig(threads=1, precision="bf16")), held_s=1.0)
    assert values["utilisation"]["precision"] == "bf16"
    assert values["flops_per_step"] == pytest.approx(32 * 2 * (2 * 64 * 10), rel=0.02)
    assert values["peak_flops_per_s"] is None and values["best_step_s"] is None
    assert values["utilisation"]["mfu"] is None
    assert "kernel_step_s" not in values


def test_the_flops_of_a_step_are_those_of_the_configured_image_size(make: Callable) -> None:
    trainer = make(data=DataConfig(limit=96, batch_size=32, image_size=4))
    assert outcome(trainer, held_s=1.0)["flops_per_step"] == pytest.approx(32 * 2 * (2 * 16 * 10), rel=0.1)


def test_the_newest_kernel_profile_is_used(make: Callable) -> None:
    trainer = make()
    kernels = {"time_s": 1.0, "step": 12, "epoch": 0, "kind": "kernels", "by_kind_s": {"dense": 0.25}}
    write(trainer.run.path, "telemetry.jsonl", kernels | {"kernel_s": 0.5}, kernels | {"kernel_s": 0.75})
    values = outcome(trainer, held_s=1.0)
    assert values["kernel_step_s"] == 0.75
    assert values["utilisation"]["kernel_s_by_kind"] == {"dense": 0.25}
    assert "ppp_by_kind" not in values["utilisation"]  # the peak of this device is not known


@pytest.mark.parametrize("text", ['{"kind": "nvml", "energy_j": 1}\n' * 2, "[1]\n", "{\n{}\n"])
def test_invalid_rows_are_a_warning(make: Callable, text: str) -> None:
    messages = Messages()
    trainer = make([messages])
    trainer.run.path.mkdir(exist_ok=True)
    (trainer.run.path / "telemetry.jsonl").write_text(text)
    values = outcome(trainer, held_s=7.0)
    assert (values["device_seconds"], values["idle_share"], values["energy_j"]) == (7.0, None, None)
    assert len(messages.texts) == 1
    assert messages.texts[0].startswith("the samples of telemetry.jsonl cannot be added up: ")


def test_a_network_that_cannot_be_counted_is_a_warning(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("no rule for this operator")

    monkeypatch.setattr("distdl.training.summary.count", fail)
    messages = Messages()
    values = outcome(make([messages]), held_s=1.0)
    assert messages.texts == ["the FLOPs of a step are not known: no rule for this operator"]
    assert "flops_per_step" not in values and values["held_s"] == 1.0
    assert values["utilisation"]["device"] is None


def test_the_bounds_of_a_gpu_are_those_of_its_data_sheet(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 computes 8.1 TFLOP/s in fp32."""
    trainer = make()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(trainer, "world", replace(trainer.world, device=torch.device("cuda", 0)))
    values = outcome(trainer, held_s=1.0)
    assert values["utilisation"]["device"] == "Tesla T4"
    assert values["peak_flops_per_s"] == hardware.device("t4").flops_per_s("fp32") == 8.1e12

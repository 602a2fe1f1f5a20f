"""Telemetry of trainings: sampling by one rank, totals in result.json, and parts that add up."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distdl.cli.__main__ import main
from distdl.cli.recipe import from_command_line
from distdl.core.config import TelemetryConfig
from distdl.core.files import read_rows
from distdl.perf.usage.waterfall import waterfall
from distdl.runtime.world import World
from distdl.strategies.base import make
from distdl.telemetry import clock as clock_module
from distdl.telemetry.clock import Clock
from distdl.training.callbacks import telemetry
from distdl.training.callbacks.telemetry import DeviceSampler, KernelTrace
from distdl.training.events import Callback
from distdl.training.session import train
from distdl.training.trainer import Trainer
from jobs import Ranks
from simulated_time import simulate_time

ARGV = ("--epochs", "2", "--progress", "none", "--telemetry.hz", "10", "--compute.threads", "1")


def run(tmp_path: Path, *argv: str, ranks: int = 1) -> tuple[dict, list[dict]]:
    folder = tmp_path / "run"
    assert Ranks([*ARGV, "--out", str(folder), *argv], ranks=ranks).wait() == [0] * ranks
    rows = [json.loads(line) for line in (folder / "telemetry.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), rows


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a profile of its kernels and a price."""
    folder = tmp_path_factory.mktemp("profiled")
    run(folder, "--telemetry.profile-steps", "2", "--telemetry.price-per-hour", "3.6")
    return folder / "run"


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one-epoch")
    run(folder, "--epochs", "1")
    return folder / "run"


@pytest.fixture
def begun(one_epoch: Path, tmp_path: Path) -> dict:
    """Result of a run of one epoch; the test resumes a copy of it."""
    shutil.copytree(one_epoch, tmp_path / "run")
    return json.loads((tmp_path / "run" / "result.json").read_text())


def test_a_result_has_times_flops_energy_and_cost(profiled: Path) -> None:
    result = json.loads((profiled / "result.json").read_text())
    rows = [json.loads(line) for line in (profiled / "telemetry.jsonl").read_text().splitlines()]
    assert all({"time_s", "step", "epoch", "kind"} <= set(row) for row in rows)
    assert {row["kind"] for row in rows} == {"host", "kernels"}
    assert rows[-1]["step"] == result["steps"]
    assert [file.name for file in profiled.glob("*.lock")] == ["run.lock"], "the claims of the sampler are removed"
    assert not list(profiled.glob(".*")), "nor is a temporary file left"
    assert result["device_seconds"] == result["held_s"]
    assert result["cost"] == pytest.approx(result["held_s"] / 1000)
    assert (result["energy_j"], result["devices_sampled"]) == (None, 0)
    assert result["idle_of"] == "cpu"
    assert 0 <= result["idle_share"] <= 1
    assert result["flops_per_step"] > 1e6
    # the peak of this CPU is not known, so there is no MFU
    assert result["utilisation"]["mfu"] is None
    assert {"conv", "dense"} <= set(result["utilisation"]["kernel_s_by_kind"])
    assert (profiled / "trace.json").stat().st_size > 1000


def test_parts_add_up_to_the_total(profiled: Path) -> None:
    breakdown = waterfall(json.loads((profiled / "result.json").read_text()))
    assert abs(breakdown.unaccounted) <= 0.03
    assert [part.name for part in breakdown.parts][:2] == ["compute", "gaps"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_parts_of_the_mnist_network_add_up(tmp_path: Path, ranks: int) -> None:
    argv = ["--model.name", "mnist-cnn", "--data.loader", "synthetic", "--data.image-size", "28"]
    result, _ = run(tmp_path, *argv, "--epochs", "1", ranks=ranks)
    breakdown = waterfall(result)
    assert abs(breakdown.unaccounted) <= 0.03
    assert {part.name for part in breakdown.parts} >= {"input", "exchange", "evaluate", "checkpoint", "start"}
    assert next(part for part in breakdown.parts if part.name == "exchange").seconds > 0 or ranks == 1


def test_a_run_is_compared_with_a_named_device(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(profiled), "--device", "t4", "--json"]) == 0
    breakdown = json.loads(capsys.readouterr().out)
    assert [part["name"] for part in breakdown["parts"]][:4] == ["peak", "layers", "kernels", "gaps"]
    assert sum(part["share"] for part in breakdown["parts"]) == pytest.approx(1, abs=0.03)
    assert 0 < breakdown["mfu"] < 1
    assert breakdown["utilisation"]["ppp_by_kind"]["conv"] > 0


@pytest.mark.world_size(2)
def test_one_of_two_ranks_samples_the_host(tmp_path: Path) -> None:
    result, rows = run(tmp_path, ranks=2)
    assert len({row["rank"] for row in rows}) == 1
    assert result["device_seconds"] == 2 * result["held_s"]
    assert abs(waterfall(result).unaccounted) <= 0.03


def test_a_resumed_run_sums_its_start_times(begun: dict, tmp_path: Path) -> None:
    again, rows = run(tmp_path, "--epochs", "2", "--resume", "auto")
    assert again["resumes"] == 1
    assert again["start_s"] > begun["start_s"]
    assert again["held_s"] > begun["held_s"]
    assert abs(waterfall(again).unaccounted) <= 0.03
    assert len({row["pid"] for row in rows}) == 2


ODD = {
    "kind nvml lacks fields": '{"time_s": 0, "step": 0, "epoch": 0, "kind": "nvml", "energy_j": 1}\n' * 2,
    "text for a number": '{"time_s": 0, "step": 0, "epoch": 0, "kind": "host", "cpu_percent": "x"}\n' * 2,
}


@pytest.mark.parametrize("lines", ODD.values(), ids=ODD)
@pytest.mark.usefixtures("begun")
def test_invalid_samples_of_a_previous_leg_do_not_end_a_training(tmp_path: Path, lines: str) -> None:
    folder = tmp_path / "run"
    (folder / "telemetry-other.jsonl").write_text(lines)
    job = Ranks([*ARGV, "--out", str(folder), "--resume", "auto"])
    assert job.wait() == [0], job.text
    assert "cannot be added up" in job.text
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed" and result["idle_share"] is None and result["held_s"] > 0


@pytest.mark.parametrize("hz", [0.0, 4.0])
def test_devices_and_host_are_sampled_at_the_rate(make: Callable, hz: float) -> None:
    trainer, sampler = make(telemetry=TelemetryConfig(hz=hz)), DeviceSampler()
    trainer.run.enter(trainer.config, strategy="single")
    sampler.begin(trainer)
    period_s = sampler._sampler._period_s if sampler._sampler else None
    sampler.close(trainer)
    assert period_s == (1 / hz if hz else None)


@pytest.mark.parametrize("steps", [0, 2, 3])
def test_the_steps_after_the_tenth_are_profiled(make: Callable, steps: int) -> None:
    trainer = make([KernelTrace()], epochs=5, telemetry=TelemetryConfig(hz=0.0, profile_steps=steps))
    trainer.run.enter(trainer.config, strategy="single")
    trainer.fit()
    rows = read_rows(trainer.run.path / "telemetry.jsonl")
    assert [(row["kind"], row["step"], row["steps"]) for row in rows] == [("kernels", 10 + steps, steps)] * bool(steps)


def test_a_rate_of_0_disables_sampling(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert Ranks([*ARGV, "--telemetry.hz", "0", "--out", str(folder)]).wait() == [0]
    assert not (folder / "telemetry.jsonl").exists()
    result = json.loads((folder / "result.json").read_text())
    assert result["held_s"] > 0
    assert result["idle_share"] is None


class TelemetryOfMissingGpu(Callback):
    """Starts a second telemetry on a GPU that this training does not have."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.rows: list[dict] = []

    def begin(self, trainer: Trainer) -> None:
        seen = copy.copy(trainer)
        seen.world = dataclasses.replace(trainer.world, device=torch.device("cuda", 99))
        seen.run = copy.copy(trainer.run)
        seen.run.path = trainer.run.path / "second"
        seen.run.path.mkdir()
        seen.run.telemetry = self.rows.append
        sampler = DeviceSampler()
        sampler.begin(seen)
        sampler.close(seen)

    def warn(self, trainer: Trainer, message: str) -> None:
        self.warnings.append(message)


def test_an_unreadable_device_is_one_warning(tmp_path: Path) -> None:
    config = from_command_line([*ARGV, "--epochs", "1", "--out", str(tmp_path / "run")], strategy="single")
    strategy, listener = make(config), TelemetryOfMissingGpu()
    strategy.setup()
    assert train(config, strategy, (listener,)) == "completed"
    assert len(listener.warnings) == 1
    assert listener.warnings[0].startswith("no telemetry of the device: ")
    assert {row["kind"] for row in listener.rows} == {"host"}


def test_the_gpu_of_this_rank_is_sampled_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's index of a device follows CUDA_VISIBLE_DEVICES, which NVML ignores."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"uuid-{index}"))
    monkeypatch.setattr(telemetry, "uuid_of", lambda uuid, index: f"GPU-{uuid}-{index}")
    assert telemetry._device_source(torch.device("cpu")) is None
    for device, name in ((torch.device("cuda", 1), "GPU-uuid-1-1"), (torch.device("cuda"), "GPU-uuid-3-3")):
        source = telemetry._device_source(device)
        assert source is not None and source[0] == name
        assert (source[1].func, source[1].args) == (telemetry.NvmlDevice, (name,))
    monkeypatch.setattr(telemetry, "uuid_of", lambda uuid, index: None)
    assert telemetry._device_source(torch.device("cuda", 0)) is None


def test_the_extra_time_of_the_first_steps_is_warm_up() -> None:
    """Three steps of 5 s, and then 1 s each: 3 x (5 - 1) s are warm-up, also after a resume at 100 s."""
    progress = SimpleNamespace(elapsed_s=100.0)
    trainer = SimpleNamespace(progress=progress, seconds={"warm": 1.0})
    warm_up = telemetry.WarmUp()
    warm_up.begin(trainer)
    for step in range(1, 13):
        progress.elapsed_s += 5 if step <= 3 else 1
        warm_up.step_end(trainer, torch.zeros(()))
    assert trainer.seconds == {"warm": 1.0 + 12.0}


def test_the_start_and_the_end_of_the_profiler_are_not_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of 15 steps of a second each, 11 and 12 are profiled. The profiler takes 3 s to start and 5 s to end."""
    time, rows = simulate_time(monkeypatch, clock_module), []

    class Profile:
        def __init__(self, device: torch.device) -> None:
            time.advance(3)

        def stop(self, steps: int, trace: Path) -> dict:
            time.advance(5)
            return {"steps": steps, "trace": trace.name}

    monkeypatch.setattr(telemetry, "KernelProfile", Profile)
    trainer = SimpleNamespace(
        clock=Clock(),
        progress=SimpleNamespace(step=0, epoch=0),
        config=SimpleNamespace(telemetry=SimpleNamespace(profile_steps=2)),
        world=World(),
        run=SimpleNamespace(path=tmp_path, telemetry=rows.append),
    )
    callback, elapsed_s = telemetry.KernelTrace(), 0.0
    callback.begin(trainer)
    for step in range(1, 16):
        time.advance(1)
        trainer.progress.step = step
        elapsed_s += trainer.clock.lap()
        callback.step_end(trainer, torch.zeros(()))
    assert (elapsed_s, trainer.clock.excluded_s) == (15, {"start": 8})
    assert [(row["kind"], row["step"], row["steps"], row["trace"]) for row in rows] == [
        ("kernels", 12, 2, "trace.json")
    ]

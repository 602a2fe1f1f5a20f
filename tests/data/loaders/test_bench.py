"""The input benchmark: its measurements, the slowest stage, and the suggested fix."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distdl.cli.__main__ import main
from distdl.core.config import AugmentConfig, Config, DataConfig
from distdl.core.errors import UserError
from distdl.data.loaders import bench
from distdl.data.loaders.bench import StageRates, diagnose, measure, of_run
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from gpu_fake import CUDA, simulate_gpu
from numbered_sets import numbered

FAST = {"cores": 4, "disk": 9e5, "decode": 9e5, "augment": 9e5, "finish": 9e5, "transfer": 9e5, "network": 9e5}


@pytest.mark.parametrize(
    ("stage", "remedy"),
    [
        ("disk", "data pack"),
        ("decode", "--data.loader dali"),
        ("augment", "--data.loader dali"),
        ("finish", "--data.augment"),
        ("transfer", "resident"),
        ("network", "not the bottleneck"),
    ],
)
def test_the_slowest_stage_is_named_with_its_remedy(stage: str, remedy: str) -> None:
    named, sentence = diagnose(StageRates(**(FAST | {stage: 100.0})))
    assert named == stage and remedy in sentence


def test_decode_and_augment_share_the_cores() -> None:
    rates = StageRates(cores=4, decode=300.0, augment=600.0, network=1000.0)
    assert rates.ceiling("decode") == rates.ceiling("augment") == pytest.approx(800)
    named, sentence = diagnose(rates)
    assert named == "decode"
    assert "needs 5 decoding cores; this machine has 4" in sentence
    assert diagnose(StageRates(cores=6, decode=300.0, augment=600.0, network=1000.0))[0] == "network"


def test_the_network_rate_is_computed_from_a_runs_phases() -> None:
    phases = {"data": 6.0, "transfer": 1.0, "forward": 1.0, "backward": 2.0, "exchange": 0.0, "update": 0.0}
    assert of_run({"train_s": 10.0, "images": 1200, "world_size": 2, "phases_s": phases}) == pytest.approx(200)


@pytest.mark.parametrize(("train_s", "images"), [(7.0, 1200), (8.0, 0)])
def test_a_run_without_compute_or_images_has_no_network_rate(train_s: float, images: int) -> None:
    phases = {"data": 6.0, "transfer": 1.0}
    assert of_run({"train_s": train_s, "images": images, "world_size": 2, "phases_s": phases}) is None


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_every_stage_of_a_data_set_is_measured(kind: str, augmented: bool, tmp_path: Path) -> None:
    dataset = numbered(kind, 31, tmp_path)
    augment = AugmentConfig(flip=0.5, random_resized_crop=True) if augmented else AugmentConfig()
    config = Config(data=DataConfig(batch_size=8, augment=augment))
    spec = LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=World(), training=augmented)
    rates = measure(spec, 2)
    assert rates.finish > 0 and rates.transfer is None
    assert all((getattr(rates, stage) is not None) == (kind == "files") for stage in ("disk", "decode", "augment"))
    assert diagnose(rates)[0] in ("disk", "decode", "augment", "finish")


def test_a_set_of_unreadable_files_is_refused(tmp_path: Path) -> None:
    dataset = numbered("files", 5, tmp_path)
    for file in dataset.train.files:
        file.write_text("not an image")
    spec = LoaderSpec(config=Config(), dataset=dataset, split=dataset.train, world=World(), training=True)
    with pytest.raises(UserError, match="none of the images could be read"):
        measure(spec, 2)


def test_bench_reports_the_loader_and_its_bottleneck(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, count in (("train", 9), ("test", 3)):
        (tmp_path / "set" / part / "a").mkdir(parents=True)
        (tmp_path / "set" / part / "b").mkdir()
        numbered("files", count, tmp_path / "set" / part / "a")
        numbered("files", count, tmp_path / "set" / part / "b")
    argv = ["data", "bench", str(tmp_path / "set"), "--seconds", "0.2", "--batch-size", "4", "--image-size", "24"]
    assert main([*argv, "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert {row["loader"] for row in message["loaders"]} == {"torch", "dali"}
    assert all(row["images_per_s"] > 0 for row in message["loaders"])
    assert message["bottleneck"] in message["remedy"]
    run = tmp_path / "run"
    assert main([*argv, "--run", str(run)]) == 2
    assert "name a completed run" in capsys.readouterr().err


def test_the_rate_of_a_gpu_includes_the_queued_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten calls of half a second each for 4 images, after one for warm-up."""
    gpu, now = simulate_gpu(monkeypatch), [0.0]

    def wait() -> None:
        now[0] += (gpu.queued_ms - gpu.done_ms) / 1e3
        gpu.done_ms = gpu.queued_ms

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    spec = SimpleNamespace(world=World(device=CUDA))
    assert bench._device_rate(spec, 4, lambda: gpu.queue(0.5)) == 8

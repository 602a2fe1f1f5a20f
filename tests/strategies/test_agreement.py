"""Ranks compare their settings, data and devices before they train."""

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import counted
from distdl.core.config import ComputeConfig, Config, DataConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.core.profiles import field_names
from distdl.data.sets.load import load
from distdl.runtime import device
from distdl.strategies.agreement import LOCAL, difference, facts
from distdl.strategies.single import Single
from distdl.strategies.text import decode, encode, gather_text
from jobs import QUIET, Ranks


def test_every_field_that_shapes_the_training_is_compared() -> None:
    compared = facts(Config(), "single", load(DataConfig())).keys()
    for name in field_names(Config):
        local = any(name == local or name.startswith(f"{local}.") for local in LOCAL)
        assert (name in compared) is not local, name


def test_a_difference_names_the_first_field_with_values_and_ranks() -> None:
    reference = facts(Config(), "ddp", load(DataConfig()))
    other = facts(Config(optim=OptimConfig(lr=5e-5), seed=3), "ddp", load(DataConfig()))
    message = difference([reference, other, reference, other])
    assert "seed is 0 on ranks 0, 2, 3 on ranks 1, 3" in message
    assert "also different: optim.lr" in message
    assert "same command" in message


def test_versions_and_data_are_compared() -> None:
    dataset = load(DataConfig())
    reference = facts(Config(), "ddp", dataset)
    for name in ("version of torch", "version of distdl"):
        assert f"{name} is {reference[name]} on rank 0, 1.0 on rank 1" in difference(
            [reference, reference | {name: "1.0"}]
        )
    fewer = facts(Config(), "ddp", load(DataConfig(limit=50)))
    assert "samples in train is 1437 on rank 0, 50 on rank 1" in difference([reference, fewer])
    other = facts(Config(), "ddp", dataclasses.replace(dataset, classes=tuple(reversed(dataset.classes))))
    assert "names of the classes" in difference([reference, other])


def test_one_rank_agrees_with_itself() -> None:
    assert gather_text(Single(Config()), "é one line") == ["é one line"]
    assert gather_text(Single(Config()), "") == [""]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_with_other_settings_end_with_exit_2_and_one_line(tmp_path: Path, ranks: int) -> None:
    job = Ranks(["--out", str(tmp_path / "run"), *QUIET], ranks=ranks, main=counted.other_settings)
    assert job.wait() == [2] * ranks, job.text
    assert "error: the ranks do not run the same training: seed is 0 on rank" in job.text
    assert "7 on rank 1 (also different: optim.lr)" in job.text
    assert "Traceback" not in job.text
    assert not (tmp_path / "run").exists()


def places(*rows: tuple[str, str, str]) -> list[device.RankDevice]:
    return [device.RankDevice(host=host, device=kind, gpu=gpu) for host, kind, gpu in rows]


def test_mixed_devices_name_the_hosts() -> None:
    assert device.mixed_devices(places(("a", "cpu", ""), ("b", "cpu", ""))) is None
    assert device.mixed_devices(places(("a", "cuda", "1"), ("b", "cuda", "1"))) is None
    message = device.mixed_devices(places(("a", "cuda", "1"), ("a", "cuda", "2"), ("b", "cpu", ""), ("c", "cpu", "")))
    assert message is not None
    assert "host a have a GPU and ranks on hosts b, c do not" in message


def test_two_ranks_on_one_gpu_are_named() -> None:
    assert device.shared_gpu(places(("a", "cuda", "1"), ("a", "cuda", "2"), ("b", "cuda", "1"))) is None
    assert device.shared_gpu(places(("a", "cpu", ""), ("a", "cpu", ""))) is None
    message = device.shared_gpu(places(("a", "cuda", "1"), ("a", "cuda", "2"), ("b", "cuda", "1"), ("a", "cuda", "2")))
    assert message is not None
    assert "ranks 1 and 3 on host a have the same GPU (2)" in message


@pytest.mark.parametrize(
    ("gpus", "local_rank", "local_size", "index"),
    [(0, 0, 1, None), (1, 0, 1, 0), (1, 2, 4, 0), (2, 3, 4, None), (4, 2, 4, 2), (8, 3, 4, 3), (2, 1, 2, 1)],
)
def test_the_gpu_of_a_rank(gpus: int, local_rank: int, local_size: int, index: int | None) -> None:
    assert device.gpu_index(gpus, local_rank=local_rank, local_size=local_size) == index


def test_auto_warns_when_it_leaves_gpus_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is a GPU host's; everything else is this process's."""
    warnings: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = device.device_for(ComputeConfig(), local_rank=0, local_size=4, warn=warnings.append)
    assert chosen.type == "cpu"
    assert "has 2 GPUs for 4 ranks" in warnings[0]
    with pytest.raises(UserError, match="has 2 GPUs for 4 ranks: start at most one rank per GPU"):
        device.device_for(ComputeConfig(device="cuda"), local_rank=0, local_size=4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    device.device_for(ComputeConfig(), local_rank=0, local_size=4, warn=warnings.append)
    assert len(warnings) == 1


def test_a_mig_slice_is_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="whole"))
    cuda = torch.device("cuda", 0)
    assert device.rank_device(cuda, {"CUDA_VISIBLE_DEVICES": "MIG-1"}).gpu == "MIG-1"
    assert device.rank_device(cuda, {"CUDA_VISIBLE_DEVICES": "0"}).gpu == "whole"
    assert device.rank_device(torch.device("cpu"), {}).gpu == ""


@pytest.mark.parametrize(("kind", "falls_back"), [("auto", True), ("cuda", False)])
def test_ranks_that_share_a_gpu_take_the_cpu_or_are_refused(
    monkeypatch: pytest.MonkeyPatch, kind: str, falls_back: bool
) -> None:
    strategy = Single(Config(compute=ComputeConfig(device=kind)))
    strategy.world = dataclasses.replace(strategy.world, device=torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="one"))
    monkeypatch.setattr("distdl.strategies.text.gather_text", lambda _, text: [text, text])
    if falls_back:
        strategy._agree_on_device()
        assert strategy.world.device.type == "cpu"
        assert "ranks 0 and 1" in strategy.warnings[0]
    else:
        with pytest.raises(UserError, match=r"ranks 0 and 1 .* have the same GPU"):
            strategy._agree_on_device()


def test_texts_of_any_bytes_pass_between_ranks() -> None:
    name = os.fsdecode(b"b\xe9.jpg cannot be decoded \xf0\x9f\x98\x80")
    assert decode(encode(name)) == name

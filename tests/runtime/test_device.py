"""The device of a rank: selection by the number of GPUs, comparison across ranks, and pinning to cores."""

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from distdl.core.config import ComputeConfig
from distdl.core.errors import UserError
from distdl.runtime import cores, device
from distdl.runtime.launch_env import Placement
from distdl.runtime.world import World


def places(*rows: tuple[str, str, str]) -> list[device.RankDevice]:
    return [device.RankDevice(host=host, device=kind, gpu=gpu) for host, kind, gpu in rows]


def test_an_error_names_the_hosts_of_mixed_devices() -> None:
    assert device.mixed_devices(places(("a", "cpu", ""), ("b", "cpu", ""))) is None
    assert device.mixed_devices(places(("a", "cuda", "1"), ("b", "cuda", "1"))) is None
    message = device.mixed_devices(places(("a", "cuda", "1"), ("a", "cuda", "2"), ("b", "cpu", ""), ("c", "cpu", "")))
    assert message is not None
    assert "host a have a GPU and ranks on hosts b, c do not" in message


def test_an_error_names_two_ranks_on_one_gpu() -> None:
    assert device.shared_gpu(places(("a", "cuda", "1"), ("a", "cuda", "2"), ("b", "cuda", "1"))) is None
    assert device.shared_gpu(places(("a", "cpu", ""), ("a", "cpu", ""))) is None
    message = device.shared_gpu(places(("a", "cuda", "1"), ("a", "cuda", "2"), ("b", "cuda", "1"), ("a", "cuda", "2")))
    assert message is not None
    assert "ranks 1 and 3 on host a have the same GPU (2)" in message


@pytest.mark.parametrize(
    ("gpus", "local_rank", "local_size", "index"),
    [(0, 0, 1, None), (1, 0, 1, 0), (1, 2, 4, 0), (2, 3, 4, None), (4, 2, 4, 2), (8, 3, 4, 3), (2, 1, 2, 1)],
)
def test_the_gpu_of_a_rank_is_its_local_rank(gpus: int, local_rank: int, local_size: int, index: int | None) -> None:
    assert device.gpu_index(gpus, local_rank=local_rank, local_size=local_size) == index


def test_auto_warns_when_it_leaves_gpus_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the number of GPUs is simulated."""
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


def test_a_mig_slice_counts_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="whole"))
    cuda = torch.device("cuda", 0)
    assert device.rank_device(cuda, {"CUDA_VISIBLE_DEVICES": "MIG-1"}).gpu == "MIG-1"
    assert device.rank_device(cuda, {"CUDA_VISIBLE_DEVICES": "0"}).gpu == "whole"
    assert device.rank_device(torch.device("cpu"), {}).gpu == ""


def test_a_gpu_is_selected_and_made_current(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    placement = Placement(rank=6, size=8, local_rank=2, local_size=4)
    world = device.make_world(ComputeConfig(), placement, pytest.fail)
    assert world == World(rank=6, size=8, local_rank=2, local_size=4, device=torch.device("cuda", 2))
    assert current == [torch.device("cuda", 2)]
    assert device.make_world(ComputeConfig(device="cpu"), placement, pytest.fail).device.type == "cpu"
    assert len(current) == 1


def test_an_error_lists_up_to_four_hosts() -> None:
    cpu = [(f"c{number}", "cpu", "") for number in range(6)]
    message = device.mixed_devices(places(("b", "cuda", "1"), *cpu, *cpu))
    assert message is not None and "ranks on hosts c0, c1, c2, c3 and 2 more do not" in message
    assert "ranks on hosts c0, c1, c2, c3 do not" in (device.mixed_devices(places(("b", "cuda", "1"), *cpu[:4])) or "")


def test_the_types_of_reduced_precisions() -> None:
    assert {"bf16": torch.bfloat16, "fp16": torch.float16} == device.REDUCED_PRECISION


@pytest.fixture
def cores_of_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[int]]]:
    """A host with 9 cores and no other programs. Records the cores to which a rank is pinned."""
    taken: list[set[int]] = []
    threads = torch.get_num_threads()
    monkeypatch.setattr(cores, "affinity", lambda: [*range(10, 19)])
    monkeypatch.setattr(cores, "sharing", lambda ranks: ranks)
    monkeypatch.setattr(cores, "cores", lambda ranks: 9 // ranks)
    monkeypatch.setattr(cores, "observe_end", lambda ranks: 0.0)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, share: taken.append({*share}) if not process else None)
    yield taken
    torch.set_num_threads(threads)


def test_ranks_of_a_host_are_pinned_to_separate_cores(cores_of_host: list[set[int]]) -> None:
    for rank in (0, 1, 3):
        world = World(rank=rank + 4, size=8, local_rank=rank, local_size=4)
        assert device.pin_cores(ComputeConfig(), world) == torch.get_num_threads() == 2
    assert cores_of_host == [{10, 11}, {12, 13}, {16, 17}]


@pytest.mark.parametrize(
    ("config", "world", "threads"),
    [
        (ComputeConfig(threads=3), World(size=2, local_size=2), 3),
        (ComputeConfig(), World(), 9),
        (ComputeConfig(), World(size=2, local_size=2, device=torch.device("cuda", 0)), 4),
    ],
)
def test_other_ranks_are_not_pinned(
    cores_of_host: list[set[int]], config: ComputeConfig, world: World, threads: int
) -> None:
    assert device.pin_cores(config, world) == torch.get_num_threads() == threads
    assert cores_of_host == []


@pytest.mark.parametrize(
    ("kind", "threads", "available", "ranks", "busy", "expected"),
    [
        ("cpu", 0, 4, 2, 0.1, True),
        ("cpu", 0, 2, 2, 0.1, True),
        ("cpu", 0, 4, 2, 1.0, False),
        ("cpu", 0, 4, 1, 0.0, False),
        ("cpu", 2, 4, 2, 0.0, False),
        ("cpu", 0, 1, 2, 0.0, False),
        ("cuda", 0, 4, 2, 0.0, False),
    ],
)
def test_ranks_are_pinned_only_if_no_other_program_uses_their_cores(
    kind: str, threads: int, available: int, ranks: int, busy: float, expected: bool
) -> None:
    assert device.pins(kind, threads, available=available, ranks=ranks, busy=busy) == expected


def test_the_backends_of_a_process_group() -> None:
    """The trainer also exchanges tensors on the CPU, by gloo."""
    assert device.backend(torch.device("cpu")) == "gloo"
    assert device.backend(torch.device("cuda", 1)) == "cpu:gloo,cuda:nccl"

"""Ranks compare their settings, data and devices before they train."""

import dataclasses
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import rank_mains
from distdl.core.config import ComputeConfig, Config, DataConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.core.profiles import field_names
from distdl.data.sets.load import load
from distdl.strategies.agreement import LOCAL, agree, difference, facts
from distdl.strategies.single import Single
from jobs import QUIET, Ranks
from thread_strategies import ddp_of


def test_every_field_that_affects_the_training_is_compared() -> None:
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


def test_a_rank_of_another_user_or_run_is_named() -> None:
    """torchrun's ranks of two people may connect to each other."""
    dataset = load(DataConfig())
    first, other = (facts(Config(out=Path(name)), "ddp", dataset) for name in ("first", "other"))
    assert "out is first on rank 0, other on rank 1;" in difference([first, other])
    owner = pwd.getpwuid(os.getuid()).pw_name
    assert f"user is {owner} on rank 0, mallory on rank 1;" in difference([first, first | {"user": "mallory"}])


@pytest.mark.world_size(3)
def test_every_rank_of_a_training_with_other_settings_is_refused(in_ranks: Callable) -> None:
    dataset = load(DataConfig())
    configs = [Config(), Config(seed=7), Config()]

    def compare(rank: int) -> str:
        with pytest.raises(UserError) as error:
            agree(ddp_of(rank, 3), configs[rank], dataset)
        return str(error.value)

    message = "the ranks do not run the same training: seed is 0 on ranks 0, 2, 7 on rank 1"
    assert all(text.startswith(message) for text in in_ranks(compare))
    in_ranks(lambda rank: agree(ddp_of(rank, 3), configs[0], dataset))


@pytest.mark.world_size(2)
def test_ranks_with_other_settings_end_with_exit_2_and_one_line(tmp_path: Path) -> None:
    job = Ranks(["--out", str(tmp_path / "run"), *QUIET], ranks=2, main=rank_mains.other_settings)
    assert job.wait() == [2] * 2, job.text
    assert "error: the ranks do not run the same training: seed is 0 on rank" in job.text
    assert "7 on rank 1 (also different: out, optim.lr)" in job.text
    assert "Traceback" not in job.text
    assert not (tmp_path / "run").exists()


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

"""A resume restores the state of a checkpoint, or refuses any invalid state in one line."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.config import ComputeConfig, Config, DataConfig, ModelConfig, OptimConfig, ScheduleConfig
from distdl.core.errors import UserError
from distdl.core.manifest import MANIFEST, STATE, seal
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.training.resumption import check_remaining
from distdl.training.trainer import Trainer
from trainers import trainers

SMALL = Config(
    data=DataConfig(limit=96, batch_size=32, validation=0.2),
    model=ModelConfig(name="digits-cnn"),
    compute=ComputeConfig(threads=1),
    optim=OptimConfig(name="adamw", ema=0.9),
    epochs=1,
)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def dataset() -> DataSet:
    return load(SMALL.data)


@pytest.fixture
def make(tmp_path: Path, dataset: DataSet) -> Iterator[Callable[..., Trainer]]:
    with trainers(tmp_path / "run") as build:
        yield lambda config=SMALL, data=dataset: build(config, data)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, dataset: DataSet) -> Path:
    """The run folder of a training that has ended."""
    run = tmp_path_factory.mktemp("ended") / "run"
    with trainers(run) as build:
        assert build(SMALL, dataset).fit() == "completed"
    return run


@pytest.fixture
def saved(ended: Path, tmp_path: Path) -> Path:
    """A copy of the training's checkpoint, to be modified."""
    shutil.copytree(ended, tmp_path / "run")
    return find(tmp_path / "run", warn=pytest.fail)


def rewrite(folder: Path, change: Change) -> None:
    """Change the state of a checkpoint, and its checksum accordingly."""
    state = read_tensors(folder / STATE)
    change(state)
    write_tensors(folder / STATE, state)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).unlink()
    seal(folder, manifest["progress"], manifest["metric"])


def moments(state: dict[str, Any]) -> dict[str, Any]:
    return state["strategy"]["optimizer"]["state"][0]


def group(state: dict[str, Any]) -> dict[str, Any]:
    return state["strategy"]["optimizer"]["param_groups"][0]


def as_int8(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: tensor.to(torch.int8) for name, tensor in tensors.items()})


INVALID: dict[str, Change] = {
    "moments of another shape": lambda state: moments(state).update(exp_avg=torch.zeros(3)),
    "moments of another type": lambda state: moments(state).update(exp_avg=moments(state)["exp_avg"].half()),
    "no second moments": lambda state: moments(state).pop("exp_avg_sq"),
    "a text for moments": lambda state: moments(state).update(exp_avg="x"),
    "a text for the steps": lambda state: moments(state).update(step="x"),
    "moments of no parameter": lambda state: state["strategy"]["optimizer"]["state"].update({999: {}}),
    "moments by name": lambda state: state["strategy"]["optimizer"].update(state={"a": moments(state)}),
    "a list of moments": lambda state: state["strategy"]["optimizer"].update(state=[]),
    "no groups": lambda state: state["strategy"]["optimizer"].pop("param_groups"),
    "fewer groups": lambda state: state["strategy"]["optimizer"]["param_groups"].pop(),
    "parameters in another order": lambda state: group(state)["params"].reverse(),
    "a number for the optimizer": lambda state: state["strategy"].update(optimizer=3),
    "no optimizer": lambda state: state["strategy"].pop("optimizer"),
    "no scaler": lambda state: state["strategy"].pop("scaler"),
    "weights as integers": lambda state: as_int8(state["model"]),
    "one weight missing": lambda state: state["model"].popitem(),
    "a number for a name": lambda state: state["model"].update({3: torch.zeros(1)}),
    "average as integers": lambda state: as_int8(state["ema"]["average"]),
    "average without updates": lambda state: state["ema"].pop("updates"),
    "average without tensors": lambda state: state["ema"].update(average={}),
    "average with another tensor": lambda state: state["ema"]["average"].update(x=torch.zeros(1)),
    "a list for the average": lambda state: state.update(ema=[1]),
    "a text for a phase": lambda state: state.update(phases={"forward": "x"}),
    "infinite seconds": lambda state: state["seconds"].update(evaluate=math.inf),
    "no seconds": lambda state: state["seconds"].clear(),
    "a number for metrics": lambda state: state["metrics"].update(test=3),
    "no loss": lambda state: state["metrics"]["validation"].pop("loss"),
    "a text for an epoch": lambda state: state["metrics"]["validation"].update(epoch="x"),
    "a text for the best": lambda state: state["best"]["validation"].update(accuracy="x"),
    "no epoch of the best": lambda state: state["best"].pop("epoch"),
    "a number for the configuration": lambda state: state.update(config=3),
    "a tensor in the configuration": lambda state: state["config"].update(optim={"lr": torch.zeros(2)}),
    "numbers as fields": lambda state: state["config"].update({3: 4}),
    "no ranks": lambda state: state.update(world_size=0),
    "a text for the seed": lambda state: state.update(seed="0"),
    "a number for the classes": lambda state: state["data"].update(classes=3),
    "no samples": lambda state: state["data"].pop("samples"),
    "a number for the parameters": lambda state: state.update(parameters=3),
}


@pytest.mark.parametrize("change", INVALID.values(), ids=INVALID)
def test_invalid_content_is_refused_in_one_line(make, saved: Path, change: Change) -> None:
    rewrite(saved, change)
    with pytest.raises(UserError) as refusal:
        make().resume(saved)
    assert "\n" not in str(refusal.value)


USABLE: dict[str, Change] = {
    "unchanged": lambda state: None,
    "of an older version": lambda state: [state.pop(name) for name in ("parameters", "data")],
    "of version 1": lambda state: [state.pop(name) for name in ("parameters", "data", "config", "best")],
    "no moments yet": lambda state: state["strategy"]["optimizer"]["state"].clear(),
    "no average": lambda state: state.update(ema={}),
    "other settings": lambda state: group(state).update(lr="x", betas=None),
    "a section of another version": lambda state: state["config"].update(optim=3),
}


@pytest.mark.parametrize("change", USABLE.values(), ids=USABLE)
def test_training_continues_from_a_valid_state(make, saved: Path, change: Change) -> None:
    rewrite(saved, change)
    trainer = make(dataclasses.replace(SMALL, epochs=2))
    trainer.resume(saved)
    assert trainer.progress.epoch == 1
    assert trainer.train_epoch()


OTHER_GROUPS = {
    "model.freeze": {"model": ModelConfig(name="digits-cnn", freeze=("features.0.*",))},
    "model.train_only": {"model": ModelConfig(name="digits-cnn", train_only=("classifier.*",))},
    "optim.lr_factors": {"optim": OptimConfig(name="adamw", ema=0.9, lr_factors=(("features.*", 0.1),))},
    "optim.decay_norm_and_bias": {"optim": OptimConfig(name="adamw", ema=0.9, decay_norm_and_bias=False)},
}


@pytest.mark.parametrize("version", ["this", "older"])
@pytest.mark.parametrize("field", OTHER_GROUPS)
def test_other_parameters_or_groups_are_refused(make, saved: Path, field: str, version: str) -> None:
    if version == "older":
        rewrite(saved, USABLE["of an older version"])
    with pytest.raises(UserError, match=f"use the same {field}, or start from its weights"):
        make(dataclasses.replace(SMALL, **OTHER_GROUPS[field])).resume(saved)


def test_another_pattern_for_the_same_parameters_is_accepted(make, tmp_path: Path) -> None:
    for pattern in ("features.0.*", "features.0.?*"):
        trainer = make(dataclasses.replace(SMALL, epochs=2, model=ModelConfig(name="digits-cnn", freeze=(pattern,))))
        if pattern == "features.0.*":
            assert trainer.train_epoch()
            trainer.save()
            trainer.checkpoints.wait()
        else:
            trainer.resume(find(tmp_path / "run", warn=pytest.fail))
            assert trainer.train_epoch()


def test_moments_have_the_memory_format_of_their_parameter(make, saved: Path) -> None:
    """Fused optimizers pair a moment with its weight by memory position."""
    trained = []
    for channels_last in (False, True):
        trainer = make(dataclasses.replace(SMALL, epochs=2, compute=ComputeConfig(channels_last=channels_last)))
        trainer.resume(saved)
        for parameter in trainer.model.parameters():
            assert trainer.optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()
        trainer.train_epoch()
        trained.append([*trainer.model.parameters()])
    for plain, channels_last in zip(*trained, strict=True):
        torch.testing.assert_close(plain, channels_last, rtol=1e-4, atol=1e-5)


def test_other_classes_are_refused_and_named(make, saved: Path, dataset: DataSet) -> None:
    swapped = dataclasses.replace(dataset, classes=("0", "2", "1", *dataset.classes[3:]))
    with pytest.raises(UserError, match=r"other classes .* class 1 was '1' and is '2'"):
        make(data=swapped).resume(saved)


def test_unusual_class_names_are_accepted(make, dataset: DataSet, tmp_path: Path) -> None:
    classes = ("caf\udce9", "a\nb", *dataset.classes[2:])
    unusual = dataclasses.replace(dataset, classes=classes)
    trainer = make(data=unusual)
    trainer.save()
    trainer.checkpoints.wait()
    make(data=unusual).resume(find(tmp_path / "run", warn=pytest.fail))


def test_other_numbers_of_samples_are_stated(make, saved: Path) -> None:
    config = dataclasses.replace(SMALL, data=dataclasses.replace(SMALL.data, limit=80))
    trainer = make(config, load(config.data))
    trainer.resume(saved)
    previous, current = (read_tensors(saved / STATE)["data"]["samples"]["train"], len(trainer.dataset.train))
    assert current < previous
    assert trainer.changes["samples in train"] == [previous, current]
    assert f"changed since the checkpoint: samples in train {previous} -> {current}" in trainer.messages


def test_a_run_whose_name_older_versions_accepted_is_resumed(make, saved: Path) -> None:
    rewrite(saved, lambda state: state["config"].update(name="my run"))
    trainer = make(dataclasses.replace(SMALL, epochs=SMALL.epochs + 1))
    trainer.resume(saved)
    expected = {"epochs": [SMALL.epochs, SMALL.epochs + 1], "name": ["my run", SMALL.name]}
    assert trainer.changes == expected


@pytest.mark.parametrize(
    ("fields", "samples", "message"),
    [
        ({"epochs": 1}, 0, "epoch 2.00 of 1"),
        ({"epochs": 2}, 5, "epoch 2.0. of 2"),
        ({"epochs": 3, "max_steps": 5}, 0, "step 6 of 5"),
        ({"epochs": 2}, 0, ""),
        ({"epochs": 3, "max_steps": 6}, 0, ""),
        ({"epochs": 3}, 5, ""),
    ],
)
def test_a_checkpoint_beyond_the_end_is_refused(make, tmp_path: Path, fields: dict, samples: int, message: str) -> None:
    trainer = make(dataclasses.replace(SMALL, **fields))
    trainer.progress.epoch, trainer.progress.samples, trainer.progress.step = 2, samples, 6
    if not message:
        check_remaining(trainer, tmp_path)
        return
    with pytest.raises(UserError, match=f"nothing is left to train: .* is at {message}"):
        check_remaining(trainer, tmp_path)


def test_another_learning_rate_at_the_position_is_stated(saved: Path, make: Callable) -> None:
    """Before: lr 0.1, constant, after one epoch. Now: 0.8 x 32 / 64 samples, halfway along a cosine."""
    optim = dataclasses.replace(SMALL.optim, lr=0.8, lr_reference_batch=64)
    trainer = make(dataclasses.replace(SMALL, epochs=2, optim=optim, schedule=ScheduleConfig(name="cosine")))
    trainer.resume(saved)
    expected = (
        "schedule cosine now spans 2 epochs (before: constant, 1 epochs): the learning rate at epoch 1.00 is 0.2 "
        "(before: 0.1)"
    )
    assert expected in trainer.messages


def test_durations_before_the_resume_are_included_in_the_result(make, saved: Path) -> None:
    planted = {
        "seconds": {"evaluate": 1e6, "checkpoint": 2e6},
        "phases": {"data": 3e6, "forward": 4e6, "backward": 5e6},
    }
    rewrite(saved, lambda state: [state[part].update(values) for part, values in planted.items()])
    trainer = make()
    trainer.resume(saved)
    result = trainer.result("completed")
    assert [int(result[name] // 1e6) for name in ("evaluate_s", "checkpoint_s")] == [1, 2]
    assert {name: int(value // 1e6) for name, value in result["phases_s"].items() if value >= 1e6} == {
        "data": 3,
        "forward": 4,
        "backward": 5,
    }

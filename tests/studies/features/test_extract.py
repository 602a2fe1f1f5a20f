"""Stored features equal the network's, and a last layer trained on them equals the one that `distdl.train` trains."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distdl.cli.train import main
from distdl.core import checkpoints as stored
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import Recipe, resolve
from distdl.data.loaders import make_loader
from distdl.data.sets import load as datasets
from distdl.launchers.job import arguments
from distdl.models import build as zoo
from distdl.runtime.tensors import load
from distdl.runtime.world import World
from distdl.studies.features import extract as features
from distdl.studies.features import last_layers
from distdl.studies.features.grid import grid_table

NETWORKS = {
    "resnet20": ("resnet20-12fca82f.th", "32", "imagenet", "linear"),
    "darknet-tiny": ("darknet_tiny_imagenet_state_dict.pth", "64", "none", "49"),
}
"""Weights, image size, normalization and name of the last layer. Both networks have BatchNorm statistics."""


@pytest.fixture
def flowers(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Overrides of a training on flowers. Weight files are found by name in the data root."""
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    return {"data.name": "flowers", "data.validation": 0.3, "data.loader": "resident", "data.batch_size": 32}


def network_overrides(name: str) -> dict[str, Any]:
    weights, size, normalize, _ = NETWORKS[name]
    return {"model.name": name, "model.weights": weights, "data.image_size": size, "data.normalize": normalize}


def configured(overrides: dict[str, Any]) -> Config:
    return resolve(Recipe(overrides=overrides), strategy="single")


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_stored_features_give_the_networks_logits(name: str, flowers: dict[str, Any], tmp_path: Path) -> None:
    config = configured({**flowers, **network_overrides(name)})
    dataset = datasets.load(config.data)
    features.write(tmp_path / "kept", features.compute(config, dataset, World()))
    stored = features.read(tmp_path / "kept", torch.device("cpu"))
    assert set(stored) == {"train", "validation", "test"}
    network = zoo.build(config.model, classes=5, channels=3, image_size=config.data.image_size).eval()
    last = network.get_submodule(NETWORKS[name][3])
    for part, (values, labels) in stored.items():
        loader = make_loader(config, dataset, getattr(dataset, part), World(), training=False)
        logits = torch.cat([network(batch.images) for batch in loader.epoch(0)])
        computed = torch.nn.functional.linear(values, last.weight.flatten(1), last.bias)
        torch.testing.assert_close(computed, logits, rtol=1e-5, atol=1e-5 * float(logits.abs().max()))
        assert labels.tolist() == getattr(dataset, part).labels.tolist()


def test_last_layers_equal_those_of_a_training_with_frozen_features(flowers: dict[str, Any], tmp_path: Path) -> None:
    """Weights agree within 1e-5, with an incomplete batch, a rate drop, momentum, weight decay and label smoothing."""
    recipe = Recipe(
        profile="resnet20-cifar100",
        overrides={
            **flowers,
            **network_overrides("resnet20"),
            "compute.threads": 1,
            "epochs": 4,
            "schedule.milestones": (3,),
            "optim.momentum": 0.9,
            "optim.weight_decay": 0.001,
            "optim.label_smoothing": 0.1,
        },
    )
    results = features.grid(tmp_path, grid_table(recipe, (0.5, 0.02), 2))
    layers = load_file(tmp_path / features.LAYERS)
    for place, head in zip([(0, 0), (0, 1), (1, 0), (1, 1)], results["heads"], strict=True):
        run = tmp_path / f"run-{place[0]}-{place[1]}"
        overrides = {"optim.lr": head["lr"], "seed": head["seed"], "model.train_only": ("linear.*",), "out": run}
        assert main(arguments(recipe.updated({**overrides, "progress": "none", "telemetry.hz": 0}))) == 0
        best = stored.best(run / "checkpoints")
        state, progress = load(best)
        assert progress.epoch == head["best_epoch"]
        torch.testing.assert_close(layers["weight"][place], state["model"]["linear.weight"], rtol=0, atol=1e-5)
        torch.testing.assert_close(layers["bias"][place], state["model"]["linear.bias"], rtol=0, atol=1e-5)
        assert json.loads((run / "result.json").read_text())["test"]["accuracy"] == pytest.approx(head["test"])
    assert (
        results["heads"][0]["test"] != results["heads"][2]["test"]
        or results["heads"][0]["loss"] != results["heads"][2]["loss"]
    )


def test_an_interrupted_trial_is_resumed_with_its_stored_features(flowers: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe(overrides={**flowers, **network_overrides("resnet20"), "epochs": 2})
    table = grid_table(recipe, (0.1,), 1)
    first = features.grid(tmp_path, table)
    stored = (tmp_path / features.FILE).stat()
    again = features.grid(tmp_path, table)
    assert (tmp_path / features.FILE).stat().st_mtime_ns == stored.st_mtime_ns
    assert again["heads"] == first["heads"] and again["features_s"] < first["features_s"]


def test_features_that_cannot_be_stored_are_refused(flowers: dict[str, Any], tmp_path: Path) -> None:
    config = configured({**flowers, **network_overrides("resnet20")})
    dataset = datasets.load(config.data)
    stored = features.compute(config, dataset, World())
    flipped = dataclasses.replace(config, data=dataclasses.replace(config.data, augment=_flip(config)))
    with pytest.raises(UserError, match="does not support augmentation"):
        last_layers.train(stored, flipped, dataset, (0.1,), (0,))
    with pytest.raises(UserError, match="needs pretrained weights"):
        features.compute(configured({**flowers, "model.name": "resnet20"}), dataset, World())
    squeezed = tmp_path / "squeezenet.pth"
    torch.save(zoo.build(_named("squeezenet1_1"), classes=5, channels=3, image_size=64).state_dict(), squeezed)
    config = configured({**flowers, "model.name": "squeezenet1_1", "model.weights": str(squeezed)})
    with pytest.raises(UserError, match="has operations after its last layer"):
        small = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=64))
        features.compute(small, dataset, World())


def _flip(config: Config) -> object:
    return dataclasses.replace(config.data.augment, flip=0.5)


def _named(name: str) -> object:
    return dataclasses.replace(Config().model, name=name)

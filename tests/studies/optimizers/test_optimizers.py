"""Study optimizers: batched grids compared with torch, published figures, and findings from partial results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from distdl.core.config import DataConfig
from distdl.data.loaders import order
from distdl.data.sets import load as datasets
from distdl.report.content import Figure, Finding, Table
from distdl.studies.base import TRAIN, Outcome
from distdl.studies.features.batched_optimizer import Setting
from distdl.studies.optimizers import STUDY, cnn, grids, line, points, softmax
from distdl.studies.optimizers import published as document
from inline_trials import configuration, kinds


def optimizer_of(setting: Setting, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    if setting.kind == "sgd":
        return torch.optim.SGD(parameters, setting.lr, momentum=setting.momentum)
    if setting.kind == "adagrad":
        return torch.optim.Adagrad(parameters, setting.lr, eps=setting.eps)
    return torch.optim.Adam(parameters, setting.lr, betas=(setting.beta1, setting.beta2), eps=setting.eps)


def test_the_grids_are_complete() -> None:
    assert (len(set(grids.line())), len(set(grids.softmax()))) == (88, 228)
    for setting in grids.line():
        assert sum(claim.covers(setting) for claim in document.LINE) >= 1, setting
    assert sum(document.line(s).text == "0" for s in grids.line()) == 4  # momentum 0.01 and 0.95, Adam 0.1 and 0.99


@pytest.mark.parametrize("place", [1, 9, 20, 40, 87])
def test_the_line_is_trained_as_by_torch(place: int) -> None:
    settings = grids.line()
    path, losses = line.fit(settings, 200)
    weight, bias = (torch.tensor(value, requires_grad=True) for value in line.START)
    optimizer = optimizer_of(settings[place], [weight, bias])
    for step in range(200):
        now = line.loss(weight, bias)
        assert float(now.detach()) == pytest.approx(float(losses[step, place]), rel=1e-5, abs=1e-6)
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
    assert torch.allclose(path[-1, place], torch.stack([weight, bias]).detach(), rtol=1e-6, atol=1e-6)


def test_the_losses_of_the_line_match_the_document(tmp_path: Path) -> None:
    result = json.loads(json.dumps(line.run(tmp_path, {"steps": 1000})))
    section = line.section(result)
    results = [part for part in section.parts if isinstance(part, Finding)]
    rows = dict(zip(grids.line(), result["rows"], strict=True))
    steep, good = rows[Setting(kind="sgd", lr=0.1)], rows[Setting(kind="sgd", lr=0.01)]
    assert steep["loss"] is None and steep["first_step_loss"] == pytest.approx(712.0985, rel=1e-5)
    assert good["loss"] == pytest.approx(5.7e-11, rel=0.01)
    assert rows[Setting(kind="adam", lr=0.1, beta1=0.9, beta2=0.99)]["loss"] < document.ROUNDING
    assert [finding.holds for finding in results[:3]] == [True] * 3
    assert "712 after one step" in results[0].text and "of 88 settings" in results[3].text
    table = next(part for part in section.parts if isinstance(part, Table))
    assert len(table.rows) == 88
    assert sum(isinstance(part, Figure) for part in section.parts) == 5


def test_a_published_value_is_compared_after_rounding() -> None:
    claim = document.line(Setting(kind="sgd", lr=0.001))
    assert claim.text == "0.15" and claim.agrees(0.148) and not claim.agrees(0.16) and not claim.agrees(None)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    split = datasets.load(DataConfig(name="digits", normalize="none")).train
    return torch.from_numpy(split.images).flatten(1) / 255, torch.from_numpy(split.labels)


@pytest.fixture(scope="module")
def fitted(digits: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return softmax.fit(grids.softmax(), *digits, seed=3, batch=100)


@pytest.mark.parametrize("place", [0, 10, 33, 100])
def test_the_linear_layer_is_trained_as_by_torch(place: int, digits, fitted) -> None:
    """Network, sample order and optimizer of the study, on the 8 x 8 digits."""
    settings, (images, labels), (weight, bias, late) = grids.softmax(), digits, fitted
    layer = torch.nn.Linear(64, 10)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = optimizer_of(settings[place], list(layer.parameters()))
    losses = []
    for members in torch.from_numpy(order.order(3, 0, len(images))).split(100):
        optimizer.zero_grad()
        now = F.cross_entropy(layer(images[members]), labels[members])
        now.backward()
        optimizer.step()
        losses.append(float(now.detach()))
    scale = float(layer.weight.detach().abs().max())
    assert torch.allclose(weight[place], layer.weight, rtol=1e-5, atol=1e-5 * scale)
    assert torch.allclose(bias[place], layer.bias, rtol=1e-5, atol=1e-5 * scale)
    assert float(late[place]) == pytest.approx(sum(losses[-2:]) / 2, rel=1e-4)  # of 15 steps


def softmax_result(accuracy: np.ndarray) -> dict:
    return {"took_s": 1.0, "images": 60_000, "accuracy": accuracy.tolist(), "loss": [0.3] * 227 + [None]}


def test_momentum_is_best_only_if_significant() -> None:
    settings = grids.softmax()
    level = np.array([0.92 if grids.optimizer(s) == grids.MOMENTUM else 0.91 for s in settings])
    for noise, wins in ((0.0001, True), (0.01, False)):
        seeds = [softmax_result(level + noise * sign) for sign in (-1, 0, 1)]
        texts = [part.text for part in softmax.section(seeds, 100).parts if isinstance(part, Finding)]
        assert any(text.startswith("Momentum is best") for text in texts) is wins
        assert any(text.startswith("No optimizer is significantly best") for text in texts) is not wins
    alone = softmax.section([softmax_result(level)], 100)
    assert not any("Momentum is best" in part.text for part in alone.parts if isinstance(part, Finding))


@pytest.mark.parametrize("fields", [STUDY.quick, {}])
def test_each_training_is_valid(fields: dict) -> None:
    trials = STUDY.trials(STUDY.settings(**fields))
    assert len({trial.name for trial in trials}) == len(trials)
    trainings = [trial for trial in trials if trial.call == TRAIN]
    assert trainings
    for trial in kinds(trainings):
        config = configuration(trial)
        assert (config.optim.lr, config.data.batch_size) == (trial.labels["lr"], trial.labels["batch"])
        assert config.optim.name == {"momentum": "sgd"}.get(trial.labels["optimizer"], trial.labels["optimizer"])


def outcomes(accuracy: dict[cnn.Point, float], seeds: int) -> dict[str, Outcome]:
    settings = STUDY.settings(**STUDY.quick)
    results = {}
    for trial in STUDY.trials(settings):
        for point, level in accuracy.items():
            for seed in range(seeds):
                if trial.name == f"{point.name}-seed{seed}":
                    result = {"test": {"accuracy": level + 0.001 * seed, "loss": 0.1}}
                    results[trial.name] = Outcome(trial=trial, folder=Path(), status="completed", result=result)
    return results


def test_findings_use_the_completed_trials() -> None:
    settings = STUDY.settings(**STUDY.quick)
    assert STUDY.findings(settings, {}) == []
    levels = {point: 0.9 if point.batch == 16 else 0.5 for point in points(settings)}
    [section] = STUDY.findings(settings, outcomes(levels, seeds=2))
    held = {part.text.split(",")[0]: part.holds for part in section.parts if isinstance(part, Finding)}
    assert held["At the small learning rate 0.0001"] is True
    levels = {point: 0.5 if point.batch == 16 else 0.9 for point in points(settings)}
    [section] = STUDY.findings(settings, outcomes(levels, seeds=2))
    held = {part.text.split(",")[0]: part.holds for part in section.parts if isinstance(part, Finding)}
    assert held["At the small learning rate 0.0001"] is False
    [section] = STUDY.findings(settings, outcomes(levels, seeds=1))
    assert all(part.holds is None or "Best of" in part.text for part in section.parts if isinstance(part, Finding))

"""The Visual Decathlon: score, both layouts of the domains, missing domains, and the training of a domain."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.core.config import DataConfig
from distdl.core.profiles import Recipe, resolve
from distdl.data.sets.decathlon import DOMAINS
from distdl.data.sets.load import load
from distdl.report.content import Finding, Table
from distdl.studies.base import Outcome, Trial
from distdl.studies.decathlon import STUDY, DecathlonSettings, findings, score, trials
from distdl.studies.decathlon import tasks as domain

AIRCRAFT = next(domain for domain in DOMAINS if domain.folder == "aircraft")


def test_the_score_matches_the_challenge() -> None:
    baseline = 1 - AIRCRAFT.baseline / 100
    assert score.domain(0.0, baseline) == 1000
    assert score.domain(baseline, baseline) == pytest.approx(250)
    assert score.domain(2 * baseline, baseline) == 0 and score.domain(0.99, baseline) == 0
    assert score.domain(baseline / 2, baseline) == pytest.approx(1000 * (3 / 4) ** 2)
    assert score.total((1 - each.baseline / 100,) * 2 for each in DOMAINS) == pytest.approx(2500)
    assert score.total([(0.0, 0.1), (0.5, 0.1)]) == 1000


def test_baselines_match_the_published_values() -> None:
    assert len(DOMAINS) == 10 and sum(domain.classes for domain in DOMAINS) == 3128
    assert np.mean([domain.baseline for domain in DOMAINS]) == pytest.approx(76.51, abs=0.01)


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """Write a data root with one domain in the challenge's layout: classes in train and val, test without labels."""
    random = np.random.default_rng(0)
    for part, classes in (("train", ("0001", "0002")), ("val", ("0001", "0002")), ("test", ("",))):
        for name in classes:
            folder = tmp_path / "decathlon-1.0" / "aircraft" / part / name
            folder.mkdir(parents=True)
            for number in range(4 if part == "train" else 2):
                pixels = random.integers(0, 255, (72, 100 + number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:06d}.jpg")
    return tmp_path


def test_a_domain_in_the_layout_of_the_challenge_is_read(challenge: Path) -> None:
    dataset = load(DataConfig(name="decathlon-aircraft", root=challenge, validation=0.25))
    assert dataset.classes == ("0001", "0002") and dataset.image_size == 72 and dataset.channels == 3
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (6, 2, 4)
    assert all(path.parts[-3] == "val" for path in dataset.test.files)
    assert any("no class folders" in note for note in dataset.notes)


def test_domains_in_their_original_layouts_are_read(data_root: Path) -> None:
    sizes = {"cifar100": (100, 6000), "dtd": (10, 900), "gtsrb": (43, 1290), "vgg-flowers": (5, 175)}
    for name, (classes, images) in sizes.items():
        dataset = load(DataConfig(name=f"decathlon-{name}", root=data_root, normalize="none"))
        assert (len(dataset.classes), len(dataset.train)) == (classes, images)
        assert (dataset.image_size, dataset.channels) == (72, 3)
    omniglot = load(DataConfig(name="decathlon-omniglot", root=data_root, normalize="none"))
    assert omniglot.channels == 3 and len(omniglot.classes) == 242


def test_the_recipes_of_all_trials_are_valid() -> None:
    for settings in (DecathlonSettings(), DecathlonSettings(**STUDY.quick)):
        listed = trials(settings)
        assert len({trial.name for trial in listed}) == len(listed)
        for trial in (each for each in listed if not each.labels.get("seed")):
            config = resolve(Recipe(**trial.settings["recipe"]), strategy="single")
            assert config.data.image_size == 72 and config.data.validation
    assert len(trials(DecathlonSettings())) == 10 * (1 + 3 * 3)


def test_a_missing_domain_is_reported_without_a_failure(challenge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTDL_DATA", str(challenge))
    settings = DecathlonSettings(domains=("svhn", "ucf101"), rates=(0.01,), seeds=1)
    outcomes = {}
    for trial in trials(settings):
        call = domain.extract if trial.call.endswith("extract") else domain.tune
        result = call(challenge, trial.settings)
        assert "svhn" in result["missing"] or "ucf101" in result["missing"]
        outcomes[trial.name] = Outcome(trial=trial, folder=challenge, status="completed", result=result)
    [section] = findings(settings, outcomes)
    [finding] = section.parts
    assert "street view house numbers, UCF101 dynamic images" in finding.text


def test_a_domain_is_trained_and_scored(data_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Train on flowers from CIFAR-10's ResNet-20, with frozen features and with fine-tuning."""
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    overrides = {"data.loader": "resident", "epochs": 2, "progress": "none", "compute.threads": 1}
    settings = DecathlonSettings(
        profile="resnet20-cifar100", overrides=overrides, domains=("vgg-flowers", "svhn"), rates=(0.01,), seeds=2
    )
    outcomes = {trial.name: _done(trial, tmp_path / trial.name) for trial in trials(settings)}
    [section] = findings(settings, outcomes)
    texts = [part.text for part in section.parts if isinstance(part, Finding)]
    assert any("on 1 of the ten domains" in text for text in texts)
    assert any("Missing, and therefore without a score" in text and "street view" in text for text in texts)
    table = next(part for part in section.parts if isinstance(part, Table))
    assert {row[1] for row in table.rows} == {"fine-tuned", "frozen features"}
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        assert (cells["classes available"], cells["classes in total"], cells["n"]) == (5, 102, 2)
        assert 20 <= cells["accuracy (%)"] <= 100
        error = 1 - cells["accuracy (%)"] / 100
        assert cells["points"] == pytest.approx(score.domain(error, 0.1859), abs=1) or cells["points"] >= 0


def _done(trial: Trial, folder: Path) -> Outcome:
    folder.mkdir(exist_ok=True)
    call = domain.extract if trial.call.endswith("extract") else domain.tune
    return Outcome(trial=trial, folder=folder, status="completed", result=call(folder, trial.settings))

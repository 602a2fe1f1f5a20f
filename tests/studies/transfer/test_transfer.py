"""Study `transfer`: its recipes, its measurements, and the conditions of its findings."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from distdl.cli.train import main
from distdl.core.profiles import Recipe
from distdl.core.profiles import resolve as resolve_recipe
from distdl.launchers.job import arguments
from distdl.report.content import Finding, Picture, Section, Table
from distdl.studies.base import TRAIN, Outcome
from distdl.studies.runner.settings import resolve, study_profiles
from distdl.studies.transfer import STUDY
from distdl.studies.transfer import published as document
from distdl.studies.transfer import tasks as calls
from distdl.studies.transfer.results import best, by_rate
from distdl.studies.transfer.settings import TransferSettings
from distdl.studies.transfer.trials import attempts, trials

PROFILES = ("", *(name.removeprefix("transfer-") for name in study_profiles(STUDY)))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
def test_the_recipes_of_all_trials_are_valid(profile: str, quick: bool) -> None:
    if quick and profile:
        return
    settings = resolve(STUDY, profile=profile, quick=quick)
    results = trials(settings)
    names = {trial.name for trial in results}
    assert len(names) == len(results) and all(set(trial.after) <= names for trial in results)
    for trial in (each for each in results if not each.labels.get("seed")):
        recipe = trial.recipe if trial.call == TRAIN else trial.settings.get("recipe")
        if recipe:
            config = resolve_recipe(recipe if isinstance(recipe, Recipe) else Recipe(**recipe), strategy="single")
            assert config.data.validation, "the rate is selected on the validation split"
            assert (config.model.weights == "none") == trial.name.startswith("scratch")
    assert settings.seeds >= 2


def test_the_default_grids_match_the_document() -> None:
    tried = {(attempt.kind, attempt.lr) for attempt in attempts(TransferSettings())}
    assert {(row.kind, row.lr) for row in document.ROWS if row.kind != "ten-crop"} <= tried
    assert TransferSettings().head_rates == (1.0, 0.1, 0.01, 0.001)
    overrides = next(attempt.overrides for attempt in attempts(TransferSettings()) if attempt.kind == "augment-all")
    assert {"data.augment.flip", "data.augment.color_jitter", "data.augment.rotation"} <= set(overrides)
    problem = resolve(STUDY, profile="resnet50-decathlon")
    config = resolve_recipe(Recipe(profile=problem.profile), strategy="single")
    assert problem.rates == (0.001, 0.01, 0.1) and config.schedule.milestones == (60, 120, 180)
    assert (config.epochs, config.data.global_batch, config.model.name) == (200, 64, "resnet50")


TINY = TransferSettings(
    profile="resnet20-cifar100",
    overrides={
        "data.name": "flowers",
        "data.image_size": 32,
        "data.loader": "resident",
        "data.validation": 0.3,
        "epochs": 2,
        "schedule.milestones": (1,),
        "progress": "none",
        "telemetry.hz": 0,
        "compute.threads": 1,
    },
    seeds=1,
    scratch_rates=(),
    rates=(0.02,),
    head_rates=(0.1, 0.01),
    lr=0.02,
    factors=(("linear.*", 10.0),),
    augmentations=("all",),
)


def test_every_kind_of_trial_runs_and_is_shown(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Run each kind of trial on flowers, with CIFAR-10's ResNet-20 at 32 pixels."""
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    outcomes = _run_all(TINY, tmp_path)
    sections = STUDY.findings(TINY, outcomes)
    titles = [section.title for section in sections]
    assert titles == [
        "The target set",
        "Learning rates",
        "Comparison of the approaches",
        "Augmentation and ten crops",
        "Explanation",
    ]
    target = sections[0]
    assert "flowers has 5 classes with 50 to 50 images each: 250 in total" in target.parts[0].text
    assert any(isinstance(part, Picture) and part.png.startswith(b"\x89PNG") for part in target.parts)

    moved = outcomes["moved"].result
    frozen, tuned = moved["freeze-features-lr0.02-seed0"], moved["finetune-lr0.02-seed0"]
    assert all(value == 0 for block, value in frozen["distance"].items() if block != "classifier")
    assert frozen["distance"]["classifier"] > 0 and frozen["parameters"] == 64 * 5 + 5
    assert moved["freeze-classifier-lr0.02-seed0"]["distance"]["classifier"] == 0
    assert all(value > 0 for value in tuned["distance"].values()) and tuned["parameters"] > 250_000

    recipe = next(trial.recipe for trial in trials(TINY) if trial.name == "finetune-lr0.02-seed0")
    assert main(arguments(recipe.updated({"data.ten_crop": True, "out": tmp_path / "crops"}))) == 0
    accuracy = json.loads((tmp_path / "crops" / "result.json").read_text())["test"]["accuracy"]
    assert outcomes["ten-crop"].result["accuracy"]["finetune-lr0.02-seed0"] == pytest.approx(accuracy)


def _run_all(settings: TransferSettings, folder: Path) -> dict[str, Outcome]:
    functions = {"describe": calls.describe, "ten_crop": calls.ten_crop, "moved": calls.moved}
    outcomes = {}
    for trial in trials(settings):
        run_folder = folder / trial.name
        if trial.call == TRAIN:
            assert main(arguments(trial.recipe.updated({"out": run_folder}))) == 0
            result = json.loads((run_folder / "result.json").read_text())
        else:
            run_folder.mkdir()
            name = trial.call.rpartition(":")[2]
            if name == "grid":
                from distdl.studies.features import extract as features

                result = features.grid(run_folder, trial.settings)
            else:
                result = functions[name](run_folder, trial.settings)
        outcomes[trial.name] = Outcome(trial=trial, folder=run_folder, status="completed", result=result)
    return outcomes


SHOWN = TransferSettings(rates=(0.1, 0.01), scratch_rates=(0.01,), augmentations=(), factors=(), ten_crop=False)
"""Settings with three seeds; the tests state the accuracies."""


def outcomes_of(
    folder: Path, accuracies: Mapping[tuple[str, float], tuple[list[float], list[float]] | None]
) -> dict[str, Outcome]:
    """Outcomes with the given validation and test accuracies by (kind, lr) and seed; None is a failed trial."""
    results = {}
    for trial in trials(SHOWN):
        key = (trial.labels.get("attempt"), trial.labels.get("lr"))
        if trial.call != TRAIN or key not in accuracies:
            continue
        run_folder = folder / trial.name
        run_folder.mkdir()
        if accuracies[key] is None:
            results[trial.name] = Outcome(trial=trial, folder=run_folder, status="failed", result={})
            continue
        validation, test = (values[trial.labels["seed"]] for values in accuracies[key])
        rows = [("train", 0.5, {"loss": 1.0}), ("validation", 1.0, {"accuracy": validation / 2})]
        rows += [("validation", 2.0, {"accuracy": validation}), ("test", 2.0, {"accuracy": test})]
        lines = [json.dumps({"time_s": 1.0, "step": 1, "epoch": e, "kind": kind} | more) for kind, e, more in rows]
        (run_folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        result = {"status": "completed", "test": {"accuracy": test}, "train_s": 3.0}
        results[trial.name] = Outcome(trial=trial, folder=run_folder, status="completed", result=result)
    return results


def near(value: float) -> list[float]:
    return [value - 0.01, value, value + 0.01]


def test_the_rate_is_selected_on_validation_and_not_on_test(tmp_path: Path) -> None:
    outcomes = outcomes_of(
        tmp_path, {("finetune", 0.1): (near(0.6), near(0.9)), ("finetune", 0.01): (near(0.7), near(0.5))}
    )
    picked = best(by_rate(SHOWN, outcomes), "finetune")
    assert picked.lr == 0.01 and picked.test.mean == pytest.approx(50) and picked.runs[0].epoch == 2


def test_a_rate_that_diverges_is_reported_and_not_selected(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, {("finetune", 0.1): None, ("finetune", 0.01): (near(0.3), near(0.3))})
    assert best(by_rate(SHOWN, outcomes), "finetune").lr == 0.01
    assert any("At 0.1 the training diverged" in part.text for part in all_findings(STUDY.findings(SHOWN, outcomes)))


@pytest.mark.parametrize(
    ("scratch", "tuned", "holds"),
    [(near(0.5), near(0.8), True), (near(0.8), near(0.5), False), (near(0.5), near(0.51), False)],
)
def test_a_claim_holds_only_if_the_intervals_show_it(
    scratch: list[float], tuned: list[float], holds: bool, tmp_path: Path
) -> None:
    outcomes = outcomes_of(tmp_path, {("scratch", 0.01): (scratch, scratch), ("finetune", 0.01): (tuned, tuned)})
    [order] = [
        part for part in all_findings(STUDY.findings(SHOWN, outcomes)) if part.text.startswith("Fine-tuned: test")
    ]
    assert order.holds is holds and order.n == 3


def test_the_frozen_classifier_is_worst_only_if_significant(tmp_path: Path) -> None:
    results = {
        ("finetune", 0.01): near(0.8),
        ("freeze-features", 0.01): near(0.7),
        ("freeze-classifier", 0.01): near(0.4),
    }
    outcomes = outcomes_of(tmp_path, {key: (values, values) for key, values in results.items()})
    sections = STUDY.findings(SHOWN, outcomes)
    [frozen] = [part for part in all_findings(sections) if part.text.startswith("With a frozen classifier")]
    assert frozen.holds is True and "40.00 %" in frozen.text and "70.00 %" in frozen.text
    table = next(part for section in sections for part in section.parts if isinstance(part, Table))
    row = next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == "classifier frozen")
    assert row["AlexNet test (%)"] == 48.9 and row["test (%)"] == 40.0


def test_without_completed_trials_there_are_no_findings() -> None:
    assert STUDY.findings(SHOWN, {}) == []


def all_findings(sections: list[Section]) -> list[Finding]:
    return [part for section in sections for part in section.parts if isinstance(part, Finding)]

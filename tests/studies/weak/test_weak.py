"""Study weak: its sequence of trainings on digits, and its findings."""

from pathlib import Path

import numpy as np
import pytest

from distdl.report.content import Finding
from distdl.studies.base import TRAIN, Outcome
from distdl.studies.weak import STUDY
from inline_trials import check_chain, run_inline

TINY = {
    **STUDY.quick,
    "data": "mnist",
    "seeds": 1,
    "samplings": ("natural", "uniform"),
    "noises": (),
    "clean": 100,
    "pretrain_steps": 20,
    "transfer_steps": 10,
}


@pytest.mark.parametrize("fields", [STUDY.quick, {}, TINY])
def test_each_training_is_valid(fields: dict) -> None:
    check_chain(STUDY.trials(STUDY.settings(**fields)))


def test_the_sequence_of_trainings_on_digits(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    settings = STUDY.settings(**TINY)
    outcomes = run_inline(STUDY.trials(settings), tmp_path, {"DISTDL_DATA": str(data_root)})
    folder = outcomes["tags-seed0"].folder
    clean, natural = np.load(folder / "clean.npz"), np.load(folder / "tags-natural-noise0.npz")
    assert np.bincount(clean["labels"]).tolist() == [10] * 10
    assert not set(clean["indices"]) & set(natural["indices"])
    assert natural["labels"].shape == (outcomes["tags-seed0"].result["images"], 3) and len(natural["classes"]) == 40
    import torch

    first, then = (
        torch.load(next((tmp_path / "trials" / name).glob("checkpoints/step-*/state.pt")), weights_only=True)["model"]
        for name in ("pretrain-uniform-noise0-seed0", "features-uniform-noise0-seed0")
    )
    assert first["classifier.2.weight"].shape[0] == 40 and then["classifier.2.weight"].shape[0] == 10
    stored = [name for name in first if not name.startswith("classifier.2.")]
    assert stored and all(
        torch.equal(first[name], then[name]) for name in stored
    )  # frozen, including BatchNorm statistics
    sections = STUDY.findings(settings, outcomes)
    assert [section.title for section in sections] == ["The tags", "Transfer to the clean task: features"]
    assert all(part.n == 1 and part.holds is None for part in sections[1].parts if isinstance(part, Finding))


def outcomes_of(settings, accuracy: dict[tuple[str, float], float]) -> dict[str, Outcome]:
    """Completed trainings with these accuracies, which differ strongly by seed, as with different images."""
    results = {}
    for trial in STUDY.trials(settings):
        if trial.call == TRAIN:
            key = trial.labels.get("sampling"), trial.labels.get("noise")
            level = accuracy.get(key, 0.3) + 0.1 * trial.labels["seed"] + 0.001 * (trial.labels["seed"] == 1)
            result = {"test": {"accuracy": level, "loss": 1.0}}
            results[trial.name] = Outcome(trial=trial, folder=Path(), status="completed", result=result)
    return results


@pytest.mark.parametrize(("natural", "holds"), [(0.45, True), (0.55, False)])
def test_a_finding_states_whether_natural_sampling_is_beaten(natural: float, holds: bool) -> None:
    settings = STUDY.settings(**STUDY.quick)
    accuracy = {("natural", 0.0): natural, ("square-root", 0.0): 0.5, ("uniform", 0.0): 0.49}
    [section] = STUDY.findings(settings, outcomes_of(settings, accuracy))
    first, *_ = [part for part in section.parts if isinstance(part, Finding)]
    assert first.holds is holds and first.n == settings.seeds
    assert ("No other sampling is significantly better" in first.text) is not holds


def test_findings_report_noise_that_costs_more_than_in_the_paper() -> None:
    settings = STUDY.settings(**STUDY.quick)
    accuracy = {(sampling, 0.0): 0.5 for sampling in settings.samplings}
    accuracy |= {("square-root", 0.1): 0.495, ("square-root", 0.25): 0.4, ("square-root", 0.5): 0.3}
    [section] = STUDY.findings(settings, outcomes_of(settings, accuracy))
    costs = [part for part in section.parts if isinstance(part, Finding) and part.text.startswith("Replacing")]
    assert [cost.holds for cost in costs] == [True, False, None]


def test_findings_use_the_first_completed_trials() -> None:
    settings = STUDY.settings(**STUDY.quick)
    assert STUDY.findings(settings, {}) == []
    all_outcomes = outcomes_of(settings, {})
    some = {name: all_outcomes[name] for name in all_outcomes if "seed0" in name and "natural" in name}
    [section] = STUDY.findings(settings, some)
    assert section.parts


def test_more_tags_per_image_than_synonyms_are_refused() -> None:
    with pytest.raises(ValueError, match="has only 2 synonyms"):
        STUDY.settings(most=3, synonyms=2)

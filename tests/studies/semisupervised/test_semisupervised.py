"""Study semisupervised: its sequence of trainings on digits, and its findings."""

from pathlib import Path

import numpy as np
import pytest

from distdl.core.profiles import read_profile, validate
from distdl.data.sets.load import load
from distdl.report.content import Finding, Table
from distdl.studies.base import Outcome
from distdl.studies.semisupervised import STUDY
from distdl.studies.semisupervised import tasks as score
from inline_trials import check_chain, run_inline

TINY = {
    **STUDY.quick,
    "sets": ("mnist",),
    "ks": (20, 2000),
    "ps": (1,),
    "ps_k": 2000,
    "seeds": 1,
    "teacher_steps": 60,
    "pretrain_steps": 20,
    "finetune_steps": 5,
}


@pytest.mark.parametrize("fields", [STUDY.quick, {}, TINY])
def test_each_training_is_valid(fields: dict) -> None:
    check_chain(STUDY.trials(STUDY.settings(**fields)))


def test_the_sequence_of_trainings_on_digits(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTDL_DATA", str(data_root))
    settings = STUDY.settings(**{**TINY, "ks": (20,), "ps_k": 20})
    outcomes = run_inline(STUDY.trials(settings), tmp_path, {"DISTDL_DATA": str(data_root)})
    scores = outcomes["mnist-0.002-seed0-scores"]
    assert (scores.result["labelled"], scores.result["unlabelled"]) == (120, 59_880)
    rows = {(row["k"], row["p"]): row for row in scores.result["choices"]}
    assert rows[20, 10]["labels"] == 200 and rows[20, 1]["labels"] <= 200
    assert rows[20, 10]["right"] > scores.result["teacher_right"] > 0.5
    config = validate(read_profile(str(tmp_path / "trials/mnist-0.002-seed0-pretrain-k20-p10/config.toml"))[0], "here")
    pretrained, labeled = load(config.data).train, load(_config(tmp_path, "teacher").data).train
    assert len(pretrained) == 200
    bytes_of = {image.tobytes() for image in labeled.images}
    assert not any(image.tobytes() in bytes_of for image in pretrained.images)  # labeled images are not among them
    [section] = STUDY.findings(settings, outcomes)
    table = next(part for part in section.parts if isinstance(part, Table))
    assert [row[:3] for row in table.rows] == [
        ("labels alone", None, None),
        ("student", 20, 1),
        ("student", 20, 10),
    ]
    assert all(part.n == 1 and part.holds is None for part in section.parts if isinstance(part, Finding))
    # Called again after a kill, it reuses the scores and gives the same labels.
    file = scores.folder / score.SCORES
    previous = file.stat().st_mtime_ns, np.load(scores.folder / score.labels_name(20, 10))["indices"]
    again = score.run(scores.folder, scores.trial.settings)
    assert again == scores.result and file.stat().st_mtime_ns == previous[0]
    assert np.array_equal(np.load(scores.folder / score.labels_name(20, 10))["indices"], previous[1])


def _config(study: Path, part: str):
    return validate(read_profile(str(study / f"trials/mnist-0.002-seed0-{part}/config.toml"))[0], "here")


def outcomes_of(settings, accuracy: dict[int, float], alone: float) -> dict[str, Outcome]:
    """Completed trials with these accuracies by K, slightly different per seed."""
    results = {}
    for trial in STUDY.trials(settings):
        level = accuracy.get(trial.labels.get("k"), alone) + 0.01 * trial.labels["seed"]
        result: dict = {"test": {"accuracy": level, "loss": 1.0}}
        if "scores" in trial.name:
            rows = [{"k": k, "p": p, "labels": k, "images": k, "right": 0.9} for k, p in trial.settings["choices"]]
            result = {"choices": rows}
        results[trial.name] = Outcome(trial=trial, folder=Path(), status="completed", result=result)
    return results


@pytest.mark.parametrize(
    ("accuracy", "rises_and_falls"),
    [({10: 0.8, 100: 0.9, 1000: 0.7}, True), ({10: 0.7, 100: 0.8, 1000: 0.9}, False), ({10: 0.9, 100: 0.8}, False)],
)
def test_findings_report_a_rise_and_fall(accuracy: dict[int, float], rises_and_falls: bool) -> None:
    settings = STUDY.settings(**{**TINY, "seeds": 3, "ks": tuple(accuracy), "ps": ()})
    [section] = STUDY.findings(settings, outcomes_of(settings, accuracy, alone=0.75))
    gain, sweep, *_ = [part for part in section.parts if isinstance(part, Finding)]
    assert gain.holds is True and gain.n == 3
    assert sweep.holds is rises_and_falls


def test_findings_use_the_first_completed_trials() -> None:
    settings = STUDY.settings(**TINY)
    all_outcomes = outcomes_of(settings, {20: 0.9, 2000: 0.9}, alone=0.8)
    assert STUDY.findings(settings, {}) == []
    assert STUDY.findings(settings, {name: all_outcomes[name] for name in all_outcomes if "finetune" not in name}) == []
    partial_outcomes = {name: all_outcomes[name] for name in all_outcomes if "k2000" not in name}
    [section] = STUDY.findings(settings, partial_outcomes)
    assert section.parts


def test_unpaired_seeds_are_not_compared() -> None:
    settings = STUDY.settings(**{**TINY, "seeds": 2})
    all_outcomes = outcomes_of(settings, {20: 0.9, 2000: 0.9}, alone=0.8)
    ends = ("seed0-scores", "seed0-finetune-k20-p10", "seed1-scores", "seed1-teacher", "seed1-finetune-k2000-p1")
    [section] = STUDY.findings(settings, {name: all_outcomes[name] for name in all_outcomes if name.endswith(ends)})
    assert not [part for part in section.parts if isinstance(part, Finding)]

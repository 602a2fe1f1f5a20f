"""The study optimus on simulated curves and step times: it recovers their coefficients."""

import json
from pathlib import Path

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.report.content import Finding, Section, Table
from distdl.studies.base import Outcome, Trial
from distdl.studies.optimus import STUDY, OptimusSettings, findings, logs, trials
from distdl.studies.optimus.scaling import Plan, last_paying_plan
from distdl.studies.runner.settings import resolve
from inline_trials import configuration

SMALL = ("devices=cpu,cuda", "epochs=10", "drops=", "batch=100", "images=1000", "target=0.5", "validation=0")
STEPS = np.arange(1, 101)


def settings(*assignments: str) -> OptimusSettings:
    return resolve(STUDY, assignments=[*SMALL, *assignments])


def curve(network: str, device: str = "cpu", *, faster: float = 1.0) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Losses whose b0 decreases with depth, and accuracies that depend on the loss: 50 % at a loss of 1."""
    b0 = faster * 0.5 / logs.depth(network)
    seed = sum(map(ord, network + device))
    losses = (1 / (b0 * STEPS + 0.45) + 0.1) * np.random.default_rng(seed).lognormal(0, 0.02, len(STEPS))
    exact = 1 / (b0 * STEPS + 0.45) + 0.1
    return losses, [(step, float(0.5 / exact[step - 1])) for step in range(10, 101, 10)]


def outcome(trial: Trial, root: Path, *, faster: dict[str, float]) -> Outcome:
    """Outcome of a trial with simulated losses or step times."""
    folder, labels = root / trial.name, trial.labels
    folder.mkdir()
    result: dict = {"status": "completed"}
    if labels["part"] == "training":
        losses, accuracy = curve(labels["network"], labels["device"], faster=faster.get(labels["device"], 1.0))
        rows = [
            {"step": int(k), "kind": "train", "loss": float(v), "lr": 0.1} for k, v in zip(STEPS, losses, strict=True)
        ]
        rows += [{"step": step, "kind": "test", "accuracy": value, "loss": 1.0} for step, value in accuracy]
        text = "".join(json.dumps(row | {"time_s": 0.0, "epoch": 0}) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    elif labels["part"] == "ps":
        p, w = int(labels["servers"]), int(labels["workers"])
        ps = {"mode": "sync", "workers": w, "servers": [{}] * p, "replayed": True}
        ps["medians"] = {"step_s": 2.0 / w + 0.1 + 0.2 * max(w / p, 1) + 0.03 * w}
        result |= {"strategy": "ps", "world_size": w, "steps": 9, "train_s": 1.0, "global_batch": 100, "ps": ps}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return Outcome(trial=trial, folder=folder, status="completed", result=result)


def outcomes(config: OptimusSettings, root: Path, **faster: float) -> dict[str, Outcome]:
    return {trial.name: outcome(trial, root, faster=faster) for trial in trials(config)}


def texts(sections: list[Section]) -> str:
    return "\n".join(part.text for section in sections for part in section.parts if isinstance(part, Finding))


def table(sections: list[Section], name: str) -> list[dict]:
    (results,) = (p for s in sections for p in s.parts if isinstance(p, Table) and p.name == name)
    return [dict(zip(results.columns, row, strict=True)) for row in results.rows]


def test_the_full_study_matches_the_document() -> None:
    config = OptimusSettings()
    assert (config.networks, config.predicted) == (
        ("resnet18", "resnet20", "resnet32", "resnet44", "resnet56"),
        "resnet50",
    )
    assert (config.batch, config.epochs, config.target, config.servers) == (128, 350, 0.92, (2, 4))
    results = {trial.name: trial for trial in trials(config)}
    overrides = results["cuda-resnet56-seed0"].recipe.overrides
    assert (overrides["epochs"], overrides["data.batch_size"], overrides["model.name"]) == (350, 128, "resnet56")
    ps_trial = results["ps-4-8"]
    assert (ps_trial.ranks, ps_trial.hosts, ps_trial.after) == (12, "12", ("ps-record-16",))
    assert ps_trial.recipe.overrides["ps.compute"] == "replay:{study}/trials/ps-record-16/ps/worker-0.jsonl"


@pytest.mark.parametrize("quick", [False, True])
def test_every_trial_is_a_training(quick: bool) -> None:
    for trial in trials(resolve(STUDY, quick=quick)):
        assert configuration(trial).data.name == "cifar10"


def test_epochs_are_predicted_from_other_networks_and_time_from_epochs(tmp_path: Path) -> None:
    config = settings()
    results = findings(config, outcomes(config, tmp_path))
    losses = table(results, "loss-models")
    assert len(losses) == 12
    for row in losses:
        assert row["b0"] == pytest.approx(0.5 / logs.depth(row["network"]), rel=0.2)
        assert row["b0 from"] <= row["b0"] <= row["b0 to"]
    assert "does not differ significantly over 10 curves" in texts(results)
    for row in table(results, "epochs"):
        assert row["predicted"] == pytest.approx(6.6, rel=0.15)  # 1 / (0.01 k + 0.45) + 0.1 = 1 at k = 66, 10 per epoch
        assert row["measured"] == pytest.approx(6.6, rel=0.05)
        assert row["from"] < row["predicted"] < row["to"]
    assert "compute replayed in 12 of them" in texts(results)
    fastest = next(row for row in table(results, "plans-measured") if row["selected as"] == "fastest of all")
    steps = 10 * table(results, "epochs")[0]["predicted"]
    p, w = fastest["servers"], fastest["workers"]
    step_s = 2.0 / w + 0.1 + 0.2 * max(w / p, 1) + 0.03 * w
    assert fastest["hours"] == pytest.approx(steps * step_s / 3600, rel=0.15)
    assert fastest["cost"] == pytest.approx(fastest["hours"] * (p + w) * config.price_per_hour)
    assert {row["fixed servers"] for row in table(results, "plans-published")} == {2, 4, None}


def test_a_device_that_converges_differently_is_detected(tmp_path: Path) -> None:
    config = settings()
    results = findings(config, outcomes(config, tmp_path, cuda=1.6))
    assert "differs significantly over 10 curves: the smallest p-value of the device" in texts(results)


def test_findings_name_missing_trials(tmp_path: Path) -> None:
    config, all_outcomes = settings(), outcomes(settings(), tmp_path)
    assert "too few for a regression" in findings(config, {})[1].text
    part = {name: each for name, each in all_outcomes.items() if each.trial.labels.get("device") == "cpu"}
    results = findings(config, part)
    assert "an effect of the device cannot be tested" in texts(results)
    assert "no parameter-server run is completed" in " ".join(section.text for section in results)


def test_an_unreached_target_has_no_predicted_time(tmp_path: Path) -> None:
    config = settings("target=0.99", "devices=cpu", "networks=resnet44,resnet56,resnet74,resnet98,resnet110")
    results = findings(config, outcomes(config, tmp_path))
    assert "No curve reached 99%" in texts(results)
    assert (
        results[-1].text == "The time to the target cannot be predicted, because the number of epochs to it is unknown."
    )


def test_logs_of_another_device_are_used_in_the_regression(tmp_path: Path) -> None:
    source = tmp_path / "k80"
    source.mkdir()
    for network in OptimusSettings().networks:
        losses, accuracy = curve(network, "k80")
        by_step = dict(accuracy)
        rows = [f"{k},{v},{by_step.get(k, '')}" for k, v in zip(STEPS, losses, strict=True)]
        (source / f"{network}.csv").write_text("\n".join(["step,loss,accuracy", *rows]), encoding="utf-8")
    config = settings("devices=cpu", f"logs=k80={source}")
    done = {trial.name: trial for trial in trials(config)}
    logged = logs.take(tmp_path, dict(done["import-k80"].settings))
    done.pop("import-k80")
    root = tmp_path / "trials"
    root.mkdir()
    all_outcomes = {name: outcome(trial, root, faster={}) for name, trial in done.items()}
    trial = next(trial for trial in trials(config) if trial.name == "import-k80")
    all_outcomes["import-k80"] = Outcome(trial=trial, folder=root, status="completed", result=logged)
    rows = table(findings(config, all_outcomes), "loss-models")
    assert sum(row["source"] == "imported" for row in rows) == 5
    assert "does not differ significantly over 10 curves" in texts(findings(config, all_outcomes))


BAD = {
    "no folder": ("nothing", "is not a folder"),
    "an empty folder": ("empty", "has no logs of k80"),
    "no depth": ("named", "has no depth in its name"),
    "no losses": ("broken", "column loss is missing"),
}


@pytest.mark.parametrize(("name", "message"), BAD.values(), ids=BAD)
def test_invalid_logs_are_refused(tmp_path: Path, name: str, message: str) -> None:
    for folder, file, text in (
        ("empty", "", ""),
        ("named", "alexnet.csv", "step,loss\n1,2\n2,1\n"),
        ("broken", "resnet20.csv", "step,cost\n1,2\n"),
    ):
        (tmp_path / folder).mkdir()
        if file:
            (tmp_path / folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        logs.take(tmp_path, {"device": "k80", "folder": str(tmp_path / name)})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("devices=tpu", "must be cpu or cuda"),
        ("logs=k80", "is not TYPE=FOLDER"),
        ("ps_workers=200", "cannot share a batch of 100"),
        ("target=1.2", "target"),
    ],
)
def test_invalid_settings_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(assignment)


def test_the_number_of_workers_is_limited_by_the_marginal_gain() -> None:
    hours = [10.0, 6.0, 5.8, 5.0]
    several = [Plan(servers=1, workers=w, hours=h, low=h, high=h, cost=h) for w, h in enumerate(hours, 1)]
    assert last_paying_plan(several, 0.05).workers == 2
    assert last_paying_plan(several[:2], 0.05).workers == 2

"""The study `scaling`: its trials, and its findings from run folders with known times."""

import json
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.report.content import Figure, Finding, Table
from distdl.studies.base import Outcome
from distdl.studies.runner import trial_lock as claim
from distdl.studies.runner.process import command
from distdl.studies.runner.settings import resolve
from distdl.studies.scaling import STUDY, ScalingSettings, findings, trials
from distdl.studies.scaling.results import amdahl, karp_flatt, repeats


def completed(settings: ScalingSettings, folder: Path, *, cores: int = 2, serial_s: float = 1.0) -> dict[str, Outcome]:
    """Outcomes whose epochs take serial_s + 4 s / workers, and 3 s more for the first."""
    outcomes = {}
    for trial in trials(settings):
        place, workers = folder / trial.name, trial.ranks
        place.mkdir(parents=True)
        epoch_s = (serial_s + 4 / workers) * (1 + 0.01 * trial.labels["seed"])
        rows = []
        for epoch in range(1, settings.epochs + 1):
            position = {"time_s": 3 + epoch * epoch_s, "step": epoch, "epoch": float(epoch)}
            exchange = {"exchange": 0.25 * epoch_s * epoch if workers > 1 else 0.0}
            rows.append({**position, "kind": "train", "phases_s": exchange})
            rows.append({**position, "kind": "test", "accuracy": 1 - 0.1 * workers / epoch, "loss": 1 / epoch})
        (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        result = {
            "status": "completed",
            "device": "cpu",
            "train_s": rows[-1]["time_s"],
            "images": 100 * settings.epochs,
            "epochs": settings.epochs,
            "test": {"accuracy": rows[-1]["accuracy"], "loss": rows[-1]["loss"]},
            "resumes": 0,
        }
        claim.write(place, trial, claim.Record(status="completed", given_cores=min(trial.cores, cores)))
        outcomes[trial.name] = Outcome(trial=trial, folder=place, status="completed", result=result)
    return outcomes


def test_points_are_interleaved_and_share_one_baseline() -> None:
    names = [trial.name for trial in trials(ScalingSettings(workers=(1, 2), repeats=2))]
    assert names == [
        *("single-1-seed0", "ddp-2-seed0", "horovod-2-seed0"),
        *("ddp-2-seed1", "horovod-2-seed1", "single-1-seed1"),
    ]


@pytest.mark.parametrize(("mode", "batches"), [("weak", [16, 16, 16]), ("strong", [16, 8, 6])])
def test_weak_scaling_keeps_the_local_batch_and_strong_scaling_the_global_batch(mode: str, batches: list[int]) -> None:
    settings = ScalingSettings(workers=(1, 2, 3), strategies=("ddp",), mode=mode, repeats=1)
    assert [trial.recipe.overrides["data.batch_size"] for trial in trials(settings)] == batches


def test_each_strategy_uses_its_launcher() -> None:
    by_name = {trial.name: trial for trial in trials(ScalingSettings(workers=(4,), repeats=1))}
    programs = {name: [Path(word).name for word in command(trial, Path("out"))] for name, trial in by_name.items()}
    assert programs["single-1-seed0"][0] == "python"
    assert programs["ddp-4-seed0"][1:5] == ["-P", "-m", "distdl.launchers.agent", "--nproc-per-node=4"]
    assert programs["horovod-4-seed0"][:4] == ["horovodrun", "--gloo", "-np", "4"]
    hosts = {trial.name: trial for trial in trials(ScalingSettings(workers=(4,), repeats=1, hosts="2"))}
    argv = command(hosts["ddp-4-seed0"], Path("out"))
    assert argv[4:11] == ["launch", "--with", "netns", "--hosts", "2", "--nproc", "2"]
    argv = command(hosts["horovod-4-seed0"], Path("out"))
    assert argv[4:9] == ["hosts", "--count", "2", "--first", "--"] and "h0:2,h1:2" in argv
    assert not hosts["single-1-seed0"].hosts
    names = trials(ScalingSettings(workers=(2,), strategies=("ddp",), repeats=1, hosts="a,b"))
    assert command(names[1], Path("out"))[4:11] == ["launch", "--with", "direct", "--hosts", "a,b", "--nproc", "1"]
    with pytest.raises(ValueError, match="3 workers cannot be shared equally by 2 hosts"):
        ScalingSettings(workers=(3,), hosts="2")


def test_findings_from_known_times(tmp_path: Path) -> None:
    settings = ScalingSettings(strategies=("ddp",), repeats=3, epochs=3)
    outcomes = completed(settings, tmp_path)
    results = repeats(outcomes.values())
    assert {each.workers for each in results if each.oversubscribed} == {4}
    two = next(each for each in results if each.workers == 2 and each.seed == 0)
    assert (two.epoch_s, two.first_epoch_s, two.exposed) == pytest.approx((3.0, 6.0, 0.25))
    assert two.images_per_s == pytest.approx(100 / 3)
    law = amdahl([each for each in results if each.seed == 0])
    assert (law.serial_s, law.parallel_s, law.points) == pytest.approx((1.0, 4.0, 2))
    sections = findings(settings, outcomes)
    parts = [part for section in sections for part in section.parts]
    texts = [part.text for part in parts if isinstance(part, Finding)]
    assert texts[0].startswith("ddp: 2 workers have a speed-up of 1.667 (1.667 to 1.667, n = 3) over one worker")
    assert parts[0].holds is True
    assert not any("4 workers have" in text for text in texts), "no speed-up of workers that share cores"
    table = next(part for part in parts if isinstance(part, Table) and part.name == "scaling")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["speed-up"] for row in rows] == [pytest.approx(1), pytest.approx(5 / 3), None]
    assert rows[1]["Karp-Flatt"] == pytest.approx(karp_flatt(5 / 3, 2)) == pytest.approx(0.2)
    assert rows[2][""] == "oversubscribed"
    figures = {part.name for part in parts if isinstance(part, Figure)}
    assert figures >= {"time", "speed-up", "efficiency", "loss", "accuracy", "accuracy-curve", "loss-curve"}
    published = next(part for part in parts if isinstance(part, Table) and part.name == "document")
    assert published.rows[1][2] == pytest.approx(610 / 324)


def test_strategies_are_those_of_the_registry_that_train_on_all_workers() -> None:
    allowed = resolve(STUDY, assignments=["strategies=ddp,horovod,deepspeed,json:dumps"])
    assert len({trial.name for trial in trials(allowed) if trial.ranks == 2}) == 4 * 5
    for name, problem in {
        "auto": "'auto' does not train on each of several workers",
        "single": "'single' does not train on each of several workers",
        "ps": "'ps' does not train on each of several workers",
        "dpd": "'dpd' is not one of ",
    }.items():
        with pytest.raises(UserError, match=f"^study scaling: strategies: {problem}"):
            resolve(STUDY, assignments=[f"strategies=ddp,{name}"])


def test_no_speed_up_is_not_reported_as_one(tmp_path: Path) -> None:
    settings = ScalingSettings(workers=(2,), strategies=("ddp",), repeats=2, epochs=2)
    outcomes = completed(settings, tmp_path)
    for outcome in outcomes.values():  # two workers as slow as one
        if outcome.trial.ranks == 2:
            (outcome.folder / "metrics.jsonl").write_bytes(
                (tmp_path / f"single-1-seed{outcome.trial.labels['seed']}" / "metrics.jsonl").read_bytes()
            )
    first, *others = (part for part in findings(settings, outcomes)[0].parts if isinstance(part, Finding))
    assert first.holds is False
    assert "ddp: more workers do not shorten an epoch" in others[-1].text


def test_partial_results_are_shown(tmp_path: Path) -> None:
    settings = ScalingSettings(**{"strategies": ("ddp",), **STUDY.quick})
    outcomes = completed(settings, tmp_path)
    first = dict(list(outcomes.items())[:1])
    assert findings(settings, first)[0].parts[-1].rows[0][:2] == (1, "single")
    without_base = {name: each for name, each in outcomes.items() if each.trial.ranks == 2}
    gains = next(part for part in findings(settings, without_base)[0].parts if isinstance(part, Table))
    assert gains.rows[0][3] is None, "nothing to compare with"

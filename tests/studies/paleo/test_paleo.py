"""The study `paleo`: the document's figures, and a measurement of a small network."""

from pathlib import Path

import pytest

from distdl.report.content import Finding, Table
from distdl.studies.base import Outcome
from distdl.studies.paleo import PaleoSettings, findings, trials
from distdl.studies.paleo.tasks import counts, measured


def outcome(trial, result, folder: Path) -> Outcome:
    return Outcome(trial=trial, folder=folder, status="completed", result=result)


@pytest.fixture(scope="module")
def counted() -> dict:
    return counts(Path(), {})


def test_the_figures_match_the_document(counted: dict, tmp_path: Path) -> None:
    settings = PaleoSettings(networks=(), repeats=1)
    (trial,) = trials(settings)
    vgg19, k80 = findings(settings, {trial.name: outcome(trial, counted, tmp_path)})
    assert vgg19.parts[0].text == "Convolutions are 99.3702% of VGG19's 19,632,062,464 multiply-adds per image."
    assert vgg19.parts[0].holds is True
    assert "117,618,966,528 FLOPs" in vgg19.parts[1].text
    document, flops = ({row[0]: row for row in part.rows} for part in k80.parts if isinstance(part, Table))
    assert k80.parts[0].holds is True
    for name, ms, images in (("VGG16", 1.776, 563), ("GoogLeNet", 0.184, 5436), ("ResNet-50", 0.449, 2226)):
        assert document[name][3] == pytest.approx(ms, abs=6e-4)
        assert document[name][5] == pytest.approx(images, rel=1e-3)
        board, half, with_traffic = flops[name][1:]
        assert board == pytest.approx(2 * ms, rel=0.03) and board < half < with_traffic


def test_a_small_network_is_measured(counted: dict, tmp_path: Path) -> None:
    settings = PaleoSettings(networks=("squeezenet1_1",), batch=1, rounds=1, repeats=2, on="cpu")
    first, *others = trials(settings)
    outcomes = {first.name: outcome(first, counted, tmp_path)}
    for trial in others:
        result = measured(tmp_path, trial.settings)
        assert result["training_flops"] > 2 * result["forward_flops"] > 0
        assert sum(result["layer_sum"].values()) == pytest.approx(
            sum(each[key] for each in result["layers"].values() for key in each)
        )
        outcomes[trial.name] = outcome(trial, result, tmp_path)
    *_, section = findings(settings, outcomes)
    table = next(part for part in section.parts if isinstance(part, Table))
    (row,) = table.rows
    assert row[0] == "squeezenet1_1" and row[-1] == 2 and row[2] > row[1] > 0
    assert {part.n for part in section.parts if isinstance(part, Finding)} == {0, 2}


def test_findings_report_layer_times_that_do_not_add_up(tmp_path: Path) -> None:
    settings = PaleoSettings(networks=("a",), repeats=1)
    result = {
        "device": "a GPU", "cuda": True, "threads": 1, "peak_flops_per_s": 1e12, "training_flops": 3e9,
        "total": {"forward_s": 1.0, "backward_s": 2.0}, "layer_sum": {"forward_s": 1.2, "backward_s": 2.4},
        "naive_sum": {"forward_s": 3.0, "backward_s": 6.0}, "paleo": {"forward_s": 0.5, "backward_s": 1.0},
    }  # fmt: skip
    trial = trials(settings)[1]
    (section,) = findings(settings, {trial.name: outcome(trial, result, tmp_path)})
    first, second, third = (part for part in section.parts if isinstance(part, Finding))
    assert first.holds is False and "120.0%" in first.text and "300.0%" in first.text
    assert "once per layer" in second.text
    assert "50.0%" in third.text

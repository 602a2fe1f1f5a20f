"""Command lines of `distdl fit speed`, `fit loss` and `predict speed`."""

import json
from pathlib import Path

import numpy as np
import pytest

from distdl.cli.__main__ import main
from distdl.cli.predict_speed import numbers
from distdl.core.errors import UserError
from distdl.perf.speed import optimus


@pytest.fixture
def speeds(tmp_path: Path) -> Path:
    rng, lines = np.random.default_rng(0), ["servers,workers,batch_size,steps_per_s"]
    for p in (1, 2, 4):
        for w in (1, 2, 4, 8):
            step = float(optimus.step_s(optimus.PUBLISHED_SYNC, p, w, 40)) * (1 + 0.05 * rng.standard_normal())
            lines.append(f"{p},{w},40,{1 / step:.6f}")
    file = tmp_path / "speeds.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def fails(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("form", ["auto", "optimus-sync"])
def test_a_fit_as_json_has_the_fields_for_scripts_and_predicts(speeds: Path, tmp_path: Path, capsys, form: str) -> None:
    assert main(["fit", "speed", str(speeds), "--form", form, "--json"]) == 0
    text = capsys.readouterr().out
    fit = json.loads(text)
    assert {"form", "coefficients", "intervals", "mape", "held_out_mape", "residuals", "warnings"} <= set(fit)
    assert fit["form"] == form and fit["coefficients"].keys() == fit["intervals"].keys()
    assert len(fit["residuals"]) == 12 and fit["held_out_mape"] < 0.15
    saved = tmp_path / "fit.json"
    saved.write_text(text, encoding="utf-8")
    assert (
        main(["predict", "speed", str(saved), "--servers", "2,4", "--workers", "1..10", "--batch", "40", "--json"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 20 and rows[0]["servers"] == 2 and rows[0]["workers"] == 1
    exact = [float(optimus.step_s(optimus.PUBLISHED_SYNC, row["servers"], row["workers"], 40)) for row in rows]
    assert np.abs([row["step_s"] / e - 1 for row, e in zip(rows, exact, strict=True)]).mean() < 0.1
    assert np.mean([row["low_s"] < e < row["high_s"] for row, e in zip(rows, exact, strict=True)]) > 0.9


def test_tables_fit_80_columns_and_name_the_next_point(speeds: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["fit", "speed", str(speeds)]) == 0
    printed = capsys.readouterr().out
    unwrapped = " ".join(printed.split())
    assert all(
        text in unwrapped for text in ("measure next: servers", "95 % interval", "each predicted from the others")
    )
    assert max(map(len, printed.splitlines())) <= 80
    main(["fit", "speed", str(speeds), "--json"])
    saved = tmp_path / "fit.json"
    saved.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["predict", "speed", str(saved), "--servers", "2", "--workers", "1..16"]) == 0
    printed = capsys.readouterr().out
    assert "most images/s: servers 2" in printed and "outside the measured range" in printed
    assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed


def test_invalid_input_is_a_one_line_error(speeds: Path, tmp_path: Path, capsys) -> None:
    single = tmp_path / "one.csv"
    single.write_text("\n".join(speeds.read_text().splitlines()[:2]), encoding="utf-8")
    assert "1 configuration does not determine" in fails(capsys, "fit", "speed", str(single))
    line = tmp_path / "line.csv"
    rows = [f"{n},{n},64,{1 / n}" for n in (1, 2, 3, 4, 6, 8)]
    line.write_text("\n".join(["servers,workers,batch_size,steps_per_s", *rows]), encoding="utf-8")
    assert "measure also: servers" in fails(capsys, "fit", "speed", str(line), "--form", "optimus-sync")
    assert "give a CSV file" in fails(capsys, "fit", "speed")
    assert "cannot be read" in fails(capsys, "fit", "speed", "none.csv")
    assert "form" in fails(capsys, "fit", "speed", str(speeds), "--form", "optimal")
    assert "must be given together" in fails(capsys, "fit", "speed", str(speeds), "--parameter-bytes", "1e6")
    assert "is not a fit written by distdl" in fails(capsys, "predict", "speed", str(speeds), "--servers", "1")


def test_options_of_a_prediction_must_match_the_variables_of_the_fit(speeds: Path, tmp_path: Path, capsys) -> None:
    main(["fit", "speed", str(speeds), "--form", "optimus-sync", "--json"])
    saved = tmp_path / "fit.json"
    saved.write_text(capsys.readouterr().out, encoding="utf-8")
    predict = ("predict", "speed", str(saved))
    about = f"{saved} is a fit over servers and workers"
    for argv, message in (
        ([], f"missing: --servers and --workers, such as --servers 1..8: {about}"),
        (["--servers", "2"], f"missing: --workers, such as --workers 1..8: {about}"),
        (["--nodes", "2", "--workers", "2"], f"missing: --servers, such as --servers 1..8: {about}"),
        (["--servers", "2", "--workers", "2", "--nodes", "1"], f"--nodes has no effect: {about}"),
        (["--batch", ","], '--batch ",": expected numbers of at least 1, such as 2,4 or 1..64'),
    ):
        assert fails(capsys, *predict, *argv) == f"error: {message}\n"
    assert fails(capsys, *predict, "--batch=").startswith("error: --batch is empty: ")
    assert '--workers "0..4"' in fails(capsys, *predict, "--servers", "2", "--workers", "0..4")
    assert "none of these configurations can run" in fails(capsys, *predict, "--servers", "2", "--workers", "64")


def test_all_reduce_from_the_file_to_the_prediction(tmp_path: Path, capsys) -> None:
    lines = ["nodes,replicas,local_batch_size,step_s,sync_s"]
    for n, k in [(1, 1), (1, 2), (1, 4), (2, 4), (2, 8), (4, 16)]:
        for m in (16, 32, 64):
            sync = 0.0 if k == 1 else 0.01 * k * n
            lines.append(f"{n},{k},{m},{0.02 + 0.001 * m + sync:.5f},{sync}")
    file, saved = tmp_path / "reduce.csv", tmp_path / "fit.json"
    file.write_text("\n".join(lines), encoding="utf-8")
    for form in ("pollux", "goodput", "auto"):
        assert main(["fit", "speed", str(file), "--form", form, "--json"]) == 0
        saved.write_text(capsys.readouterr().out, encoding="utf-8")
        arguments = ["predict", "speed", str(saved), "--nodes", "1,2", "--replicas", "2,4", "--batch", "32", "--json"]
        assert main(arguments) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [(row["nodes"], row["replicas"]) for row in rows] == [(1, 2), (1, 4), (2, 2), (2, 4)]
        assert rows[1]["step_s"] == pytest.approx(0.052 + 0.04, rel=0.1)


def test_a_loss_curve_as_table_and_as_json(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rng, file = np.random.default_rng(0), tmp_path / "metrics.jsonl"
    with file.open("w") as sink:
        for step in range(1, 301):
            loss = (1 / (0.03 * step + 0.45) + 0.5 if step <= 150 else 0.2 + 0.2 * np.exp((150 - step) / 8)) * (
                1 + 0.03 * rng.standard_normal()
            )
            row = {
                "time_s": step,
                "step": step,
                "epoch": 0,
                "kind": "train",
                "loss": loss,
                "lr": 0.1 if step <= 150 else 0.01,
            }
            sink.write(json.dumps(row) + "\n")
    assert main(["fit", "loss", str(file), "--json"]) == 0
    fit = json.loads(capsys.readouterr().out)
    assert list(fit["coefficients"]) == ["b0", "b1", "b2"] and len(fit["phases"]) == 2
    assert fit["phases"][1]["first_step"] == 151 and fit["held_out_mape"] < 0.2 * fit["optimus_held_out_mape"]
    assert main(["fit", "loss", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "2 phases" in printed and max(map(len, printed.splitlines())) <= 80 and "…" not in printed
    assert "cannot be read" in fails(capsys, "fit", "loss", "none.jsonl")


def test_lists_of_numbers_are_parsed() -> None:
    assert numbers("2,4..6", "workers") == [2, 4, 5, 6]
    for bad in ("", "a", "4..2", "1..2..3", "1,,2", "-1", "1.5", "1..100000"):
        with pytest.raises(UserError, match="--workers"):
            numbers(bad, "workers")

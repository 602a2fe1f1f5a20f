"""Pages of complete, unfinished and damaged runs, and errors for other folders."""

import base64
import csv
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distdl.cli.__main__ import main
from distdl.cli.report import write_report
from distdl.core.errors import UserError
from distdl.report import run_page
from distdl.report.content import Figure, Table
from distdl.report.page import Page
from distdl.report.run_folder import labels, read
from run_folders import write_run


def page_of(*paths: Path) -> Page:
    return run_page.page([read(path, label) for path, label in zip(paths, labels(list(paths)), strict=True)])


def figures(page: Page) -> dict[str, Figure]:
    return {part.name: part for section in page.sections for part in section.parts if isinstance(part, Figure)}


def tables(page: Page) -> dict[str, Table]:
    return {part.name: part for section in page.sections for part in section.parts if isinstance(part, Table)}


def column(table: Table, name: str) -> list[Any]:
    index = table.columns.index(name)
    return [row[index] for row in table.rows]


def test_a_page_has_all_data_of_a_run(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    assert page.title == "digits" and page.status == "completed" and page.notes == ()
    assert page.subtitle.startswith("digits-cnn on digits · single · 1 rank · cuda · global batch 32")
    facts = {fact.label: (fact.value, fact.note) for fact in page.facts}
    assert facts["test accuracy"] == ("95.56%", "loss 0.1365")
    assert facts["images/s"][0] == "9,499" and facts["MFU"] == ("12.3%", "of the dense peak of h200")
    assert facts["energy"][0] == "1.234 kJ" and facts["idle"] == ("12.0%", "of the GPU time")
    names = set(figures(page))
    curves = {"accuracy", "accuracy-time", "loss", "learning-rate", "throughput", "phases", "phases-time", "waterfall"}
    devices = {"gpu-activity", "gpu-memory", "gpu-power", "gpu-temperature", "host-cpu", "host-memory"}
    assert curves | devices <= names
    assert "gpu-links" not in names  # the run has no such counters


def test_figures_have_the_measured_values(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    page = page_of(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert figures(page)["throughput"].layers[0].data["images/s"] == [row["images_per_s"] for row in trained]
    assert figures(page)["loss"].layers[0].data["loss"] == [row["loss"] for row in trained]
    tested = [100 * row["accuracy"] for row in rows if row["kind"] == "test"]
    assert figures(page)["accuracy"].layers[0].data["accuracy (%)"] == tested
    # Totals of the six phases grow by 1, 2, ... 6 ms per step, over the run and at its end.
    assert column(tables(page)["phases-table"], "ms per step") == pytest.approx([1, 2, 3, 4, 5, 6, 4])
    over_time = figures(page)["phases-time"].layers[0].data
    by_phase = dict(zip(over_time["phase"], over_time["ms per step"], strict=True))
    assert by_phase["update"] == pytest.approx(6)
    total = sum(column(tables(page)["waterfall-table"], "share (%)"))
    assert total == pytest.approx(100)


def test_the_page_lists_changes_from_the_profile(tmp_path: Path) -> None:
    changes = tables(page_of(write_run(tmp_path / "run")))
    assert changes["changed"].title == 'Changed from profile "digits"'
    assert ("optim.lr", 0.004, 0.01) in changes["changed"].rows
    assert ("optim.lr", 0.01) in changes["configuration"].rows


def test_without_its_profile_a_run_is_compared_with_the_defaults(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "environment.json").write_text(json.dumps({"command": ["distdl", "train", "--profile=gone.toml"]}))
    assert tables(page_of(run))["changed"].title == "Changed from distdl's defaults"


def test_two_runs_are_compared(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name / "run", rows=rows) for name, rows in (("a", 60), ("b", 120))]
    page = page_of(*paths)
    assert page.title == "2 runs"
    assert column(tables(page)["runs"], "run") == ["a/run", "b/run"]
    assert "strategy" not in tables(page)["runs"].columns  # both have the same
    assert set(figures(page)["throughput"].layers[0].data["curve"]) == {"a/run", "b/run"}
    assert set(figures(page)["waterfall"].layers[0].data["run"]) == {"a/run", "b/run"}
    assert set(figures(page)["gpu-power"].layers[0].data["curve"]) == {"a/run", "b/run"}
    assert [fact.note for fact in page.facts if fact.label == "shortest training"] == ["a/run"]


def test_an_unfinished_run_is_an_error(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", ended=False))
    assert page.status == "not ended"
    assert page.notes == ("there is no result.json: the run has not ended, or was killed",)
    assert {"loss", "phases"} <= set(figures(page)) and "waterfall" not in figures(page)
    assert "test accuracy" in {fact.label for fact in page.facts}


def damage(run: Path, kind: str) -> None:
    metrics = run / "metrics.jsonl"
    text = metrics.read_text()
    match kind:
        case "cut line":
            metrics.write_text(text[:-20])
        case "damaged lines":
            metrics.write_bytes(text[:500].encode() + b"\0\xff\n1, 2\n[]\n{}\nnull\n" + text[500:].encode())
        case "empty metrics":
            metrics.write_text("")
        case "no telemetry":
            (run / "telemetry.jsonl").unlink()
        case "empty telemetry":
            (run / "telemetry.jsonl").write_text("")
        case "a truncated result":
            (run / "result.json").write_text('{"status": "comp')
        case "a list for a result":
            (run / "result.json").write_text("[1, 2]")
        case "wrong types":
            wrong = {"status": ["x"], "steps": "many", "phases_s": 3, "test": 5, "utilisation": "x", "train_s": "y"}
            (run / "result.json").write_text(json.dumps(wrong))
            rows = [{"time_s": 1, "step": 1, "epoch": 1, "kind": "train", "loss": "low", "lr": [], "phases_s": [1]}]
            metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "no config":
            (run / "config.toml").unlink()
        case "config is not TOML":
            (run / "config.toml").write_text("= =")
        case "a loss that is not finite":
            metrics.write_text(re.sub(r'"loss": [\d.e-]+', '"loss": NaN', text))


KINDS = {
    "cut line": "1 line is damaged in metrics.jsonl and ignored, of 70",
    "damaged lines": "lines are damaged in metrics.jsonl and ignored",
    "empty metrics": "metrics.jsonl has no training row: the curves are missing",
    "no telemetry": "",
    "empty telemetry": "",
    "a truncated result": "result.json cannot be read: ",
    "a list for a result": "result.json is damaged: it is not a table",
    "wrong types": "",
    "no config": "there is no config.toml: the configuration is not known",
    "config is not TOML": "config.toml cannot be read: ",
    "a loss that is not finite": "the loss is not finite at step 1; such points are missing in the curves",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_run_has_a_page_with_a_note(tmp_path: Path, kind: str) -> None:
    run = write_run(tmp_path / "run", gpu=False, samples=3)
    damage(run, kind)
    page = page_of(run)
    assert any(KINDS[kind] in note for note in page.notes) or not KINDS[kind]
    if "telemetry" in kind:
        assert next(section for section in page.sections if section.title == "Machine").text.startswith("No telemetry")
    file = write_report([run])
    text = file.read_text(encoding="utf-8")
    assert text.count("<section") == len(page.sections) and KINDS[kind].split("'")[0] in text
    packed = text.partition('id="specs">')[2].partition("</script>")[0]
    specs = json.loads(gzip.decompress(base64.b64decode(packed)), parse_constant=lambda constant: pytest.fail(constant))
    assert set(specs) == set(figures(page))


def test_the_page_links_its_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert len(text) < 1_000_000 and "http://" not in re.sub(r"http://www.w3.org/\S+", "", text)
    links = re.findall(r'href="(report/[^"]+)"', text)
    assert len(links) > 30 and all((run / link).stat().st_size for link in links)
    with (run / "report" / "loss.csv").open() as source:
        assert sum(1 for _ in csv.reader(source)) == 1 + 60 + 10
    assert main(["report", str(run), "--out", str(tmp_path / "sub" / "other.html")]) == 0
    assert (tmp_path / "sub" / "other" / "loss.svg").is_file()
    assert not list(tmp_path.rglob("*.tmp"))


def test_invalid_arguments_are_one_line_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", rows=5, gpu=False)
    (tmp_path / "empty").mkdir()
    for arguments, line in (
        ([tmp_path / "none"], "is not a folder"),
        ([tmp_path / "empty"], "is neither a run nor a study"),
        ([run, tmp_path / "empty"], "is neither a run nor a study"),
        ([], "no folder was given"),
        ([run, "--out", run / "config.toml" / "x.html"], "cannot be written"),
        ([run, "--out", tmp_path / "page"], "needs a suffix"),
    ):
        assert main(["report", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1


def test_a_missing_package_is_a_one_line_error_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", rows=5, gpu=False)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"vl-convert-python is not installed.*distdl\[report\]"):
        write_report([run])


def test_reports_do_not_import_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=5, gpu=False)
    code = (
        "import sys; from pathlib import Path; from distdl.cli.report import write_report;"
        f"write_report([Path({str(run)!r})]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("out", [".", "..", "/", "folder.html"])
def test_out_must_not_be_a_folder(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder.html").mkdir()
    Path("run").mkdir()
    Path("run/config.toml").write_text("")
    assert main(["report", "run", "--out", out]) == 2
    assert "Traceback" not in capsys.readouterr().err

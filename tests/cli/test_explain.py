"""Output of `distdl explain`, and its errors for folders that it cannot explain."""

import json

import pytest

from distdl.cli.__main__ import main
from distdl.perf.usage.waterfall import waterfall
from distdl.report.time_spent import waterfall_figure
from example_result import KNOWN, RUN


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "config.toml").write_text('[compute]\nprecision = "bf16"\n')
    used = {"device": "toy", "precision": "bf16", "busy": 0.97, "tensor_active": 0.31, "ppp_by_kind": {"conv": 0.62}}
    (folder / "result.json").write_text(json.dumps(RUN | KNOWN | {"utilisation": used}))
    return folder


def test_the_table_has_mfu_bottleneck_and_remedy(run, capsys):
    assert main(["explain", str(run)]) == 0
    out = capsys.readouterr().out
    assert "toy: where 100.0 s went" in out
    assert "MFU 24.4% of 5 TFLOP/s (toy, bf16, dense)" in out
    assert "1.22 TFLOP/s achieved" in out
    assert "busy 97%, tensor active 31%" in out
    assert "conv 62.0%" in out
    assert "The largest loss is kernels, 25.0%" in out
    assert "--compute.channels-last --compute.compile" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_json_output(run, capsys):
    assert main(["explain", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["largest"] == "kernels"
    assert sum(part["seconds"] for part in printed["parts"]) == pytest.approx(printed["whole_s"])
    assert printed["mfu"] == pytest.approx(100 * 1e12 / (5e12 * 82))


@pytest.mark.parametrize("held_s", [80.0, 100.0, 130.0])
def test_the_bars_of_the_figure_add_up_to_the_total(held_s):
    parts = waterfall(RUN | KNOWN | {"held_s": held_s})
    (layer,) = waterfall_figure(parts).layers
    starts, ends = layer.data["from (s)"], layer.data["to (s)"]
    assert starts[0] == 0 and starts[1:] == ends[:-1]
    assert ends[-1] == pytest.approx(held_s)
    assert (layer.data["part"][-1], layer.data["share (%)"][-1]) == ("unaccounted", 100 * parts.unaccounted)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_figure_is_written(run, tmp_path, kind):
    figure = tmp_path / f"waterfall.{kind}"
    assert main(["explain", str(run), "--figure", str(figure)]) == 0
    head = figure.read_bytes()[:100]
    assert head.startswith(b"\x89PNG" if kind == "png" else b"<svg ")
    if kind == "svg":
        text = figure.read_text(encoding="utf-8")
        assert "toy: where the time went, MFU 24.4%" in text and text.count(">checkpoint<") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is no run folder"), ({}, "has no times"), (RUN | {"steps": 0}, "before its first step was measured")],
)
def test_invalid_folders_are_refused(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "result.json").write_text(json.dumps(content))
    assert main(["explain", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_run_is_an_error(tmp_path, capsys):
    (tmp_path / "config.toml").write_text("")
    assert main(["explain", str(tmp_path)]) == 2
    assert "has not ended yet" in capsys.readouterr().err


def test_a_figure_of_an_unknown_format_is_refused(run, tmp_path, capsys):
    assert main(["explain", str(run), "--figure", str(tmp_path / "w.xyz")]) == 2
    assert ".xyz" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "busy", "named"), [("cpu", 1.8, True), ("cpu", 0.1, False), ("cuda", 1.8, False)])
def test_cores_that_other_programs_used_are_named(run, capsys, device, busy, named):
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"device": device, "cores_busy_at_start": busy}))
    assert main(["explain", str(run)]) == 0
    assert ("Other programs kept 1.8 cores busy" in " ".join(capsys.readouterr().out.split())) == named

"""`distdl fit speed RUNS...` reads the run folders of trainings."""

import json
from pathlib import Path

import pytest

from distdl.cli.fit_speed import speed
from distdl.cli.predict_speed import predict_speed
from distdl.perf.speed.read_speeds import read
from jobs import train

POINTS = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)]
ARGV = ("--strategy", "ps", "--max-steps", "8", "--optim.name", "sgd", "--optim.lr", "0.01")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs with one global batch size and several numbers of servers and workers, with replayed compute."""
    folder = tmp_path_factory.mktemp("runs")
    outcomes = []
    for servers, workers in POINTS:
        record = folder / f"record-{workers}.jsonl"
        row = {"forward_s": 0.04 / workers, "backward_s": 0.08 / workers}
        record.write_text((json.dumps(row) + "\n") * 5, encoding="utf-8")
        run = folder / f"{servers}-{workers}"
        argv = [*ARGV, "--ps.servers", str(servers), "--data.batch-size", str(16 // workers), "--out", str(run)]
        train([*argv, "--ps.compute", f"replay:{record}"], ranks=servers + workers)
        outcomes.append(run)
    return outcomes


def test_servers_workers_and_batch_size_are_read(runs: list[Path]) -> None:
    data = read(runs)
    assert data.points.tolist() == [[servers, workers, 16] for servers, workers in POINTS]
    assert (data.mode, data.replayed) == ("sync", len(POINTS))
    assert all(step_s >= 0.12 / workers for step_s, (_, workers) in zip(data.step_s, POINTS, strict=True))


def test_a_fit_of_replayed_runs_is_marked_and_predicts(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed(tuple(runs), form="optimus-sync", as_json=True)
    fit = json.loads(text := capsys.readouterr().out)
    assert set(fit["coefficients"]) == {"t0", "t1", "t2", "t3", "t4"}
    assert any("6 of 6 measurements replayed" in warning for warning in fit["warnings"])
    (tmp_path / "fit.json").write_text(text, encoding="utf-8")
    predict_speed(tmp_path / "fit.json", servers="2", workers="1..8", as_json=True)
    assert [row["workers"] for row in json.loads(capsys.readouterr().out)] == list(range(1, 9))


def test_a_replayed_run_is_marked_in_every_output(runs: list[Path]) -> None:
    from distdl.perf.usage.explain import sentences
    from distdl.perf.usage.waterfall import waterfall
    from distdl.report.run_folder import read as read_for_report
    from distdl.training.callbacks.display import closing_table

    result = json.loads((runs[0] / "result.json").read_text(encoding="utf-8"))
    assert "compute replayed" in str(closing_table(result).title)
    assert "Compute was replayed" in sentences(waterfall(result, {}), result)[0]
    assert read_for_report(runs[0]).exchange == "ps, compute replayed"


def test_the_number_of_nodes_of_all_reduce_runs_is_read(tmp_path: Path) -> None:
    train(["--max-steps", "4", "--data.batch-size", "16", "--out", str(tmp_path / "run")], ranks=2)
    data = read([tmp_path / "run"])
    assert data.points.tolist() == [[1, 2, 16]]
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["nodes"] == 1

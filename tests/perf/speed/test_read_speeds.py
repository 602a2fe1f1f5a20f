"""Step times from CSV files and from run folders, and the messages about bad files."""

import json
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.perf.speed.read_speeds import read, read_csv

GOOD = "servers,workers,batch_size,steps_per_s\n1,2,128,4\n2,4,128,8\n"


def write(folder: Path, text: str, name: str = "speeds.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_steps_per_s_become_step_s_and_other_columns_are_ignored(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufeffnote, Workers,servers,batch_size,steps_per_s\nx,2,1,128,4\n\ny,4,2,128,8\n")
    data = read([file])
    assert data.kind == "servers" and data.points.tolist() == [[1, 2, 128], [2, 4, 128]]
    assert data.step_s.tolist() == [0.25, 0.125]


def test_all_reduce_columns_with_synchronization_time_are_read(tmp_path: Path) -> None:
    text = "nodes,replicas,local_batch_size,step_s,sync_s\n1,1,32,0.2,0\n2,8,32,0.3,0.1\n"
    data = read([write(tmp_path, text)])
    assert data.kind == "replicas" and data.sync_s is not None and data.sync_s.tolist() == [0, 0.1]


@pytest.mark.parametrize(
    ("word", "mode"), [("sync", "sync"), ("dist_sync", "sync"), ("async", "async"), ("dist_async", "async")]
)
def test_the_column_mode_selects_the_mode(tmp_path: Path, word: str, mode: str) -> None:
    text = f"servers,workers,batch_size,step_s,mode\n1,2,128,4,{word}\n2,4,128,8,{word}\n"
    assert read([write(tmp_path, text)]).mode == mode


BAD = {
    "": "is empty; expected columns: servers, workers, batch_size, steps_per_s",
    "servers,workers,batch_size,steps_per_s\n": "has column names but no measurements",
    "servers,worker,batch_size,step_s\n1,2,3,4\n": 'line 1: column workers is missing; did you mean "worker"',
    "servers,workers,batch_size,speed\n1,2,3,4\n": "line 1: column steps_per_s or step_s is missing",
    "nodes,replicas,local_batch_size\n1,2,3\n": "line 1: column steps_per_s or step_s is missing",
    GOOD + "2,4,128,-3\n": "line 4: steps_per_s is -3; it must be finite and positive",
    GOOD + "2,4,128,nan\n": "line 4: steps_per_s is nan",
    GOOD + "2,4,128,inf\n": "line 4: steps_per_s is inf",
    GOOD + "2,4,128,0\n": "line 4: steps_per_s is 0",
    GOOD + "0,4,128,1\n": "line 4: servers is 0; it must be finite and 1 or more",
    GOOD + "2,four,128,1\n": 'line 4: workers is "four", not a number',
    GOOD + "2,4,128\n": "line 4: 3 values under 4 column names",
    "nodes,replicas,local_batch_size,step_s,sync_s\n1,2,8,0.5,0.5\n": "line 2: sync_s is not less than step_s",
    "model,servers,workers,batch_size,step_s\na,1,2,8,1\nb,1,2,8,1\n": 'line 3: model is "b" after "a"',
    "mode,servers,workers,batch_size,step_s\nsnyc,1,2,8,1\n": 'mode is "snyc"',
}


@pytest.mark.parametrize("text", BAD)
def test_an_error_names_a_bad_file_and_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as error:
        read([write(tmp_path, text)])
    assert BAD[text] in str(error.value) and "speeds.csv" in str(error.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read([tmp_path / "none.csv"])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match="is not text"):
        read([tmp_path / "binary.csv"])


def run(folder: Path, name: str, **values: object) -> Path:
    """Write the files of a run folder that fits read. `ps` in `values` updates the table of 2 servers and 4 workers."""
    path = folder / name
    path.mkdir()
    ps = {"mode": "sync", "workers": 4, "servers": [{}, {}], "replayed": False, "medians": {}}
    base = {"strategy": "ps", "world_size": 4, "steps": 100, "train_s": 50.0, "global_batch": 128}
    ps |= values.pop("ps", {})
    (path / "result.json").write_text(json.dumps(base | {"ps": ps} | values), encoding="utf-8")
    return path


def test_run_folders_of_the_parameter_server_are_read(tmp_path: Path) -> None:
    first = run(tmp_path, "a")
    two = run(tmp_path, "b", ps={"servers": [{}], "workers": 2, "medians": {"step_s": 0.2}, "replayed": True})
    data = read([first, two])
    assert data.mode == "sync" and data.points.tolist() == [[2, 4, 128], [1, 2, 128]]
    assert data.step_s.tolist() == [0.5, 0.2]
    assert data.replayed == 1


def test_an_asynchronous_worker_counts_its_own_steps(tmp_path: Path) -> None:
    data = read([run(tmp_path, "a", ps={"mode": "async"})])
    assert data.mode == "async" and data.step_s.tolist() == [0.125]


def test_run_folders_of_all_reduce_are_read(tmp_path: Path) -> None:
    path = run(tmp_path, "a", strategy="ddp", world_size=4, phases_s={"exchange": 10.0})
    data = read([path])
    assert data.kind == "replicas" and data.points.tolist() == [[1, 4, 32]]
    assert data.sync_s is not None and data.sync_s.tolist() == [0.1]
    two = read([run(tmp_path, "b", strategy="ddp", world_size=4, nodes=2)])
    assert two.points.tolist() == [[2, 4, 32]]


def test_runs_of_different_kinds_are_refused(tmp_path: Path) -> None:
    ps, ddp = run(tmp_path, "ps"), run(tmp_path, "ddp", strategy="ddp")
    other = run(tmp_path, "async", ps={"mode": "async"})
    with pytest.raises(UserError, match="fit them separately"):
        read([ps, ddp])
    with pytest.raises(UserError, match="one mode at a time"):
        read([ps, other])
    with pytest.raises(UserError, match="one CSV file, or run folders only"):
        read([ps, write(tmp_path, GOOD)])


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(UserError, match=r"not a finished run: it has no result\.json"):
        read([tmp_path / "half"])
    with pytest.raises(UserError, match="0 steps in 50 s"):
        read([run(tmp_path, "none", steps=0)])
    broken = run(tmp_path, "broken")
    (broken / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is not a result of distdl"):
        read([broken])


def test_all_reduce_accepts_steps_per_s_and_is_suggested_without_servers(tmp_path):
    file = tmp_path / "speeds.csv"
    file.write_text("nodes,replicas,local_batch_size,steps_per_s\n1,2,32,4\n")
    assert read_csv(file).step_s.tolist() == [0.25]
    file.write_text("workers,batch_size,steps_per_s\n1,32,4\n")
    with pytest.raises(UserError, match=r"without servers, expected columns: nodes, replicas, local_batch_size"):
        read_csv(file)

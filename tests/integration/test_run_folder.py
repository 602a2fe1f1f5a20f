"""The run folder of trainings: refused starts, resumes, and kills at any file operation."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.files import read_rows
from distdl.core.manifest import digest, published
from distdl.core.result import current_result
from distdl.runtime.tensors import load
from jobs import PRELOAD, QUIET, Ranks, step_of, torchrun_command, torchrun_places, train, wait_for
from kill_points import train_until_killed
from run_folders import tree

SHORT = ("--data.limit", "96", "--data.global-batch", "32", "--epochs", "2", "--log-every-s", "0")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of two epochs."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train([*SHORT, "--out", str(run)])
    return run


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """Make a folder with the completed run as `run`, another one as `other`, and one with damaged checkpoints."""
    for name in ("run", "other", "damaged"):
        shutil.copytree(finished, tmp_path / name)
    for folder in published(tmp_path / "damaged" / "checkpoints"):
        (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:-50])
    shutil.copytree(finished, tmp_path / "objects")
    newest = published(tmp_path / "objects" / "checkpoints")[-1]
    (newest / "state.pt").write_bytes(b"not a state")
    reseal(newest)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    shutil.copytree(finished, tmp_path / "obstructed")
    (tmp_path / "obstructed" / "config.toml").unlink()
    (tmp_path / "obstructed" / "config.toml").mkdir()
    return tmp_path


def reseal(checkpoint: Path) -> None:
    """Recompute the checksums of a changed checkpoint."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["sha256"]["state.pt"] = digest(checkpoint / "state.pt")
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


RESUME = ("--out", "run", "--resume", "auto")
REFUSED = {
    "unknown model": (["--out", "new", "--model.name", "resnet18x"], "did you mean"),
    "unknown model in a run's folder": ([*RESUME, "--model.name", "resnet18x"], "did you mean"),
    "missing weights": (["--out", "new", "--model.weights", "absent.pt"], "absent.pt"),
    "no data": (["--out", "new", "--data.name", "nowhere/set"], "nowhere/set"),
    "no data for an existing run": ([*RESUME, "--data.name", "nowhere/set"], "nowhere/set"),
    "a pattern without a match": (["--out", "new", "--optim.lr-factors", "xyz*", "2"], "xyz"),
    "another seed": ([*RESUME, "--seed", "3", "--optim.lr", "0.5"], "--seed 0"),
    "another network": ([*RESUME, "--model.name", "softmax", "--epochs", "9"], "another network"),
    "another optimizer": ([*RESUME, "--optim.name", "sgd", "--optim.lr", "0.1"], "optim.name"),
    "other parameters": ([*RESUME, "--epochs", "3", "--model.freeze", "features.0.*"], "the same model.freeze"),
    "other groups": ([*RESUME, "--epochs", "3", "--optim.lr-factors", "features.*", "0.1"], "optim.lr_factors"),
    "fewer epochs": ([*RESUME, "--epochs", "1"], "nothing is left to train: "),
    "fewer steps": ([*RESUME, "--max-steps", "2"], "nothing is left to train: "),
    "a folder instead of a file": (["--out", "obstructed", "--resume", "auto", "--epochs", "3"], "config.toml"),
    "weights of an empty folder": (["--out", "new", "--model.weights", "empty"], "empty holds no whole checkpoint"),
    "a folder with a run": (["--out", "run"], "--resume auto"),
    "a resume of another run": (["--out", "run", "--resume", "other"], "outside it"),
    "a resume of a missing run": (["--out", "new", "--resume", "absent"], "no whole checkpoint"),
    "damaged checkpoints": (["--out", "damaged", "--resume", "auto"], "no whole checkpoint"),
    "damaged checkpoints of another run": (["--out", "new", "--resume", "damaged"], "no whole checkpoint"),
    "a checkpoint with an invalid state": (["--out", "objects", "--resume", "auto"], "state.pt"),
    "a file instead of the folder": (["--out", "file"], "cannot be written"),
    "a file instead of a parent folder": (["--out", "file/run"], "cannot be written"),
    "a value out of range": (["--out", "new", "--epochs", "0"], "epochs"),
    "more ranks than samples": (["--out", "new", "--data.limit", "1"], "1"),
}
FOR_TWO = (
    "unknown model in a run's folder",
    "another seed",
    "other parameters",
    "a resume of another run",
    "a checkpoint with an invalid state",
)


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        *((name, 1) for name in REFUSED if "ranks" not in name),
        *(pytest.param(name, 2, marks=[pytest.mark.slow] * (name != FOR_TWO[1])) for name in FOR_TWO),
    ],
)
def test_a_refused_start_changes_no_file(place: Path, name: str, ranks: int) -> None:
    overrides, message = REFUSED[name]
    previous = tree(place)
    job = Ranks([*SHORT, *QUIET, *overrides], ranks=ranks)
    assert job.wait() == [2] * ranks, job.text
    errors = [line for line in job.text.splitlines() if line.startswith("error: ")]
    assert message in errors[0]
    assert "Traceback" not in job.text
    assert tree(place) == previous


def test_more_ranks_than_samples_leave_no_folder(tmp_path: Path) -> None:
    job = Ranks([*QUIET, "--data.limit", "1", "--out", "new"], ranks=2)
    assert 2 in job.wait(), job.text
    assert tree(tmp_path) == {}


def test_the_corrected_command_works_after_a_misspelled_one(tmp_path: Path) -> None:
    assert Ranks([*SHORT, *QUIET, "--out", "run", "--model.name", "sotfmax"]).wait() == [2]
    train([*SHORT, "--out", "run", "--model.name", "softmax"])


def test_a_second_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    endless = ["--epochs", "100000", "--log-every-s", "0", "--checkpoint.every-steps", "20", "--out", "run"]
    first = Ranks([*endless, *QUIET], ranks=2)
    wait_for(lambda: step_of(tmp_path / "run") > 0, what="a step")
    wait_for(lambda: published(tmp_path / "run" / "checkpoints"), what="a checkpoint")
    second = Ranks([*endless, "--resume", "auto", *QUIET])
    assert second.wait() == [2]
    assert (
        f"in use by another training (on host {os.uname().nodename}, process {first.processes[0].pid})" in second.text
    )
    assert current_result(tmp_path / "run")["status"] == "running"
    first.kill()
    assert current_result(tmp_path / "run")["status"] == "killed"
    job = Ranks([*endless, "--max-steps", str(step_of(tmp_path / "run")), "--resume", "auto", *QUIET])
    assert job.wait() == [0], job.text


def test_a_resumed_run_that_is_killed_is_not_completed(finished: Path, tmp_path: Path, capsys) -> None:
    from distdl.cli.__main__ import main

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    ended = step_of(run)
    arguments = [*SHORT, "--epochs", "100000", "--optim.lr", "0.02", "--out", str(run), "--resume", "auto"]
    job = Ranks([*arguments, *QUIET])
    wait_for(lambda: step_of(run) > ended + 5, what="steps after the resume")
    assert json.loads((run / "result.json").read_text())["status"] == "running"
    assert main(["explain", str(run)]) == 0
    assert re.search(r"so far \(running, step \d+\)", " ".join(capsys.readouterr().out.split()))
    job.kill()
    newest = step_of(run)
    assert main(["explain", str(run)]) == 0
    assert f"so far (killed, step {newest:,})" in " ".join(capsys.readouterr().out.split())
    result = current_result(run)
    assert (result["status"], result["steps"]) == ("killed", newest)
    # The change is reported with the resulting learning rate; the previous configuration is kept.
    assert "changed since the checkpoint: optim.lr 0.004 -> 0.02" in job.text
    assert "changed since the checkpoint: epochs 2 -> 100000" in job.text
    assert "schedule onecycle now spans 100000 epochs (before: onecycle, 2 epochs)" in job.text
    assert (run / "config.1.toml").read_bytes() == (finished / "config.toml").read_bytes()
    legs = json.loads((run / "result.json").read_text())["legs"]
    assert [(leg["from_step"], leg.get("to_step")) for leg in legs] == [(0, ended), (ended, None)]
    assert legs[1]["changed"]["optim.lr"] == [0.004, 0.02]


def test_measurements_without_a_checkpoint_are_a_warning(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    row = {"time_s": 1.0, "step": 7, "epoch": 0.1, "kind": "train", "loss": 1.0}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    job = Ranks([*SHORT, *QUIET, "--out", "run", "--resume", "auto"])
    assert job.wait() == [0]
    assert job.text.count("has measurements up to step 7 but no checkpoint: training starts again at step 0") == 1
    steps = [row["step"] for row in read_rows(run / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == sorted(set(steps))


def test_a_resume_from_an_earlier_checkpoint_sets_later_ones_aside(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    first, second = published(run / "checkpoints")
    job = Ranks([*SHORT, *QUIET, "--out", "run", "--resume", str(first)])
    assert job.wait() == [0]
    assert "set aside" in job.text
    assert (run / "checkpoints" / f"replaced-{second.name}" / "state.pt").is_file()
    assert published(run / "checkpoints") == [first, second]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_names_position_checkpoint_and_command(tmp_path: Path, number: int) -> None:
    arguments = ["--epochs", "100000", "--data.validation", "0.2", "--log-every-s", "0", "--out", "my run"]
    job = Ranks([*arguments, "--progress", "plain", "--telemetry.hz", "0", "--compute.threads", "1"])
    wait_for(lambda: "validation loss" in job.text, what="an evaluation")
    os.kill(job.processes[0].pid, number)
    assert job.wait() == [75]
    assert re.search(r"stopped \(SIG\w+\) at step \d+, epoch [\d.]+ of 100000; checkpoint .*/step-\d+", job.text)
    assert "--out '" + str(tmp_path / "my run") + "' --resume auto" in job.text
    assert "test accuracy" not in job.text
    assert "stopped, validation accuracy" in job.text


def test_progress_none_is_silent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distdl.train", *SHORT, *QUIET, "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def evaluations(run: Path, kind: str) -> list[dict]:
    return [row for row in read_rows(run / "metrics.jsonl") if row["kind"] == kind]


# With a high learning rate and small batches the best epoch is rarely the last one.
UNSTEADY = ("--data.validation", "0.3", "--data.batch-size", "8", "--optim.lr", "0.02", "--schedule.name", "constant")


@pytest.mark.parametrize(
    ("ranks", "kind", "seed"),
    [pytest.param(1, "accuracy", 2, marks=pytest.mark.slow), (2, "accuracy", 3), (1, "loss", 4)],
)
def test_the_best_weights_are_kept_tested_and_reported(tmp_path: Path, ranks: int, kind: str, seed: int) -> None:
    """For any checkpoint.every_epochs, validation and test in result.json belong to the best weights."""
    rare = ["--checkpoint.every-epochs", "4", "--checkpoint.keep", "1", "--checkpoint.best", kind]
    arguments = ["--epochs", "6", "--data.limit", "400", "--seed", str(seed), *UNSTEADY, *rare, "--out", "run"]
    train(arguments, ranks=ranks)
    result = json.loads(Path("run/result.json").read_text())
    validations = evaluations(Path("run"), "validation")
    sign = -1 if kind == "loss" else 1
    best = max(validations, key=lambda row: sign * row[kind])  # the first of equal ones
    for split in (result["best"], result["test"], result["validation"], evaluations(Path("run"), "test")[0]):
        assert (split["epoch"], split["step"]) == (best["epoch"], best["step"])
    assert result["validation"] == result["best"]["validation"]
    assert result["validation"][kind] == best[kind]
    assert f"step-{best['step']:08d}" in [folder.name for folder in published(Path("run/checkpoints"))]
    # A resumed run tests again and reports once.
    train([*arguments, "--resume", "auto"], ranks=ranks)
    again = json.loads(Path("run/result.json").read_text())
    assert again["best"] == result["best"]
    assert again["test"] == result["test"]
    assert len(evaluations(Path("run"), "test")) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a folder from a process needs root")
def test_a_host_without_the_run_folder_tests_the_same_weights(tmp_path: Path) -> None:
    """Rank 1 is in a mount namespace in which the folder of the runs is empty."""
    arguments = ["--epochs", "5", "--data.limit", "400", "--seed", "3", *UNSTEADY, *QUIET]
    tested = []
    for name, hidden in (("shared", False), ("hidden", True)):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-m", "distdl.train", *arguments, "--out", str(tmp_path / name / "run")]
        hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(tmp_path / name)]
        ranks = []
        for rank, variables in enumerate(torchrun_places(2)):
            prefix = hide if hidden and rank else []
            ranks.append(subprocess.Popen([*prefix, *command], env={**os.environ, **variables}))
        assert [process.wait(300) for process in ranks] == [0, 0]
        result = json.loads((tmp_path / name / "run" / "result.json").read_text())
        assert result["best"]["step"] < result["steps"], "the best weights are the last: another seed is needed"
        tested.append(result["test"])
    assert tested[0] == tested[1]


def test_a_resumed_run_keeps_its_measurements(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    train([*SHORT, "--out", str(run), "--resume", "auto"])
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (finished, run))
    for name in ("test", "steps", "images", "train_s", "phases_s", "evaluate_s"):
        assert second[name] == first[name], name
    assert second["checkpoint_s"] > 0  # the last save does not include its own time
    assert (second["resumes"], len(second["legs"])) == (1, 2)


def killed_at(number: int, saved: Path, arguments: list[str]) -> int | None:
    """Exit code of a training that is killed at its `number`-th file operation."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=train_until_killed, args=(number, saved, arguments))
    process.start()
    process.join(300)
    return process.exitcode


def check_after_kill(run: Path, saved: Path, arguments: list[str]) -> None:
    """Check that no saved checkpoint is lost and that the resumed run ends like an uninterrupted one."""
    steps = [int(line) for line in saved.read_text().split()] if saved.exists() else []
    if steps:
        assert load(find(run, warn=pytest.fail))[1].step >= steps[-1]
    train([*arguments, "--resume", "auto"])
    rows = Counter((row["kind"], row["step"]) for row in read_rows(run / "metrics.jsonl") if row["kind"] != "warning")
    assert max(rows.values()) == 1, rows
    assert [key for key in rows if key[0] == "test"] == [("test", 3), ("test", 6)]
    assert not list((run / "checkpoints").glob(".*"))
    assert load(find(run, warn=pytest.fail))[1].epoch == 2
    assert json.loads((run / "result.json").read_text())["status"] == "completed"


def kill_and_resume(folder: Path, number: int) -> bool:
    """Return whether the training was killed: after its last file operation it completes."""
    folder.mkdir(exist_ok=True)
    arguments = [*SHORT, *QUIET, "--checkpoint.every-steps", "2", "--checkpoint.keep", "1"]
    arguments += ["--out", str(folder / "run")]
    code = killed_at(number, folder / "saved", arguments)
    assert code in (0, -signal.SIGKILL)
    check_after_kill(folder / "run", folder / "saved", arguments)
    return code != 0


@pytest.mark.parametrize("number", [9, 26])
def test_a_kill_at_a_file_operation_loses_no_checkpoint_and_repeats_no_row(tmp_path: Path, number: int) -> None:
    kill_and_resume(tmp_path, number)


@pytest.mark.slow
def test_a_kill_at_any_file_operation_loses_no_checkpoint_and_repeats_no_row(tmp_path: Path) -> None:
    number = 1
    while kill_and_resume(tmp_path / str(number), number):
        number += 1
    assert number > 40


@pytest.mark.slow
def test_the_resume_command_under_torchrun_is_torchruns(tmp_path: Path) -> None:
    arguments = ["--epochs", "100000", "--max-time", "0.5", "--telemetry.hz", "0", "--out", "run"]
    done = subprocess.run([*torchrun_command(2), *arguments], capture_output=True, text=True, timeout=300)
    command = next(line for line in done.stdout.splitlines() if line.startswith("resume with: "))
    assert "torch.distributed.run --standalone --nproc_per_node=2 -m distdl.train --epochs 100000" in command
    assert command.endswith(f"--out {tmp_path / 'run'} --resume auto")


def test_a_checkpoint_of_version_1_is_resumed(finished: Path, tmp_path: Path) -> None:
    """In version 1 the state has no configuration, metrics have no step, and the manifest has no kind of metric."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest = published(run / "checkpoints")[-1]
    state = torch.load(newest / "state.pt", weights_only=True)
    state["metrics"] = {split: {"accuracy": 0.5, "loss": 1.0} for split in state["metrics"]}
    torch.save({key: state[key] for key in state.keys() - {"config", "best"}}, newest / "state.pt")
    reseal(newest)
    manifest = json.loads((newest / "manifest.json").read_text())
    del manifest["metric_kind"]
    (newest / "manifest.json").write_text(json.dumps(manifest))
    job = Ranks([*SHORT, *QUIET, "--out", str(run), "--resume", "auto"])
    assert job.wait() == [0], job.text
    assert "changed since the checkpoint" not in job.text.replace("compute.threads", ""), job.text


UNLIKE = """
import os, sys
from distdl.runtime.process import exit_process, with_torchelastic_record
from distdl.train import main
more = ["--data.name", "/nowhere/set"] if os.environ["RANK"] == "1" else []
exit_process(with_torchelastic_record(lambda: main([*sys.argv[1:], *more]))())
"""


def test_an_error_on_one_rank_is_printed(tmp_path: Path) -> None:
    Path("unlike.py").write_text(UNLIKE)
    command = [*torchrun_command(2)[:-2], "unlike.py", *SHORT, *QUIET, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "error: rank 1: data.name: /nowhere/set" in done.stderr
    assert not (tmp_path / "run").exists()

"""`distdl study run` from the command line: failures, kills, stops, and several runners."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from distdl.core.errors import UserError
from distdl.core.files import read_rows
from distdl.core.profiles import Recipe
from distdl.data.sets.load import locate, source_of
from distdl.launchers.slices import newest
from distdl.studies.base import Trial
from distdl.studies.runner.process import MARK, HostShare, command, trial_environment
from distdl.studies.runner.run import shares
from jobs import wait_for
from relay import register

STUDY = (sys.executable, "-m", "distdl.cli", "study")


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment in which distdl finds the study `relay`. Remaining runners and trials are killed after the test."""
    yield {**os.environ, **register(tmp_path / "site")}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.cwd() == str(tmp_path):
                process.kill()


def start(seen: Mapping[str, str], *argv: str, out: str = "study") -> subprocess.Popen[str]:
    command = [*STUDY, "run", "relay", "--out", out, *argv]
    return subprocess.Popen(command, env=seen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(seen: Mapping[str, str], *argv: str, out: str = "study", code: int = 0) -> str:
    process = start(seen, *argv, out=out)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == code, text
    return text


def record(name: str, out: str = "study") -> dict:
    return json.loads(Path(out, "trials", name, "trial.json").read_text(encoding="utf-8"))


def journal(out: str = "study") -> Counter:
    return Counter((row["trial"], row["what"]) for row in read_rows(Path(out, "journal.jsonl")))


class TestOneRunner:
    def test_each_trial_runs_exactly_once(self, seen: dict[str, str]) -> None:
        text = run(seen, "--calls", "2", "--trainings", "2")
        assert "study relay: 4 trials" in text and "4 trials were completed." in text
        run(seen, "--calls", "2", "--trainings", "2")
        assert journal() == {("call0", "begin"): 1, ("call1", "begin"): 1}
        trained = [json.loads(Path(f"study/trials/train{index}/result.json").read_text()) for index in (0, 1)]
        assert [(each["status"], each["world_size"], each["resumes"]) for each in trained] == [
            ("completed", 1, 0),
            ("completed", 2, 0),
        ]
        assert [record(name)["attempts"] for name in ("call0", "train0", "train1")] == [1, 1, 1]
        findings = json.loads(Path("study/findings.json").read_text(encoding="utf-8"))
        assert findings[0]["parts"][0] == {"kind": "finding", "text": "4 trials were completed.", "n": 4, "holds": None}
        assert f"report: {Path('study/report.html').resolve()}" in text
        assert "4 trials were completed." in Path("study/report.html").read_text(encoding="utf-8")
        text_shown = subprocess.run(
            [*STUDY, "show", "study"], env=seen, capture_output=True, text=True, check=True
        ).stdout
        assert "4 of 4 trials completed" in text_shown and "4 trials were completed." in text_shown

    def test_a_failed_trial_is_reported_and_the_others_run(self, seen: dict[str, str]) -> None:
        text = run(seen, "--calls", "4", "--fails", "call1", "--chain", "no", code=1)
        assert "[2/4] call1: failed: error: this trial fails, as requested" in text
        assert str(Path("study/trials/call1/output.log").resolve()) in text
        assert [record(f"call{index}")["status"] for index in range(4)] == [
            "completed",
            "failed",
            "completed",
            "completed",
        ]

    def test_trials_that_depend_on_a_failed_one_are_not_started(self, seen: dict[str, str]) -> None:
        text = run(seen, "--calls", "4", "--fails", "call1", "--chain", "yes", code=1)
        assert "not started: call2" in text and "not started: call3" in text
        assert not Path("study/trials/call2/trial.json").exists()
        assert "1 trials were completed." in text

    def test_after_three_equal_failures_no_more_trials_are_started(self, seen: dict[str, str]) -> None:
        text = run(seen, "--calls", "9", "--fails", "call0,call2,call4,call6", code=1)
        assert [record(f"call{index}")["status"] for index in range(5)] == [
            *("failed", "completed", "failed", "completed", "failed"),
        ]
        assert not Path("study/trials/call5/trial.json").exists()
        assert "not started: 4 more trials, after 3 failed for the same reason: error: this trial fails" in text
        show = subprocess.run([*STUDY, "show", "study"], env=seen, capture_output=True, text=True, check=True).stdout
        assert "3 failed, 2 completed, 4 waiting; 22% done, time left " in show
        assert "failed: call0, call2, call4: error: this trial fails, as requested\n" in show

    def test_a_trial_that_exits_without_a_result_has_failed(self, seen: dict[str, str]) -> None:
        text = run(seen, "--calls", "2", "--silent", "call0", code=1)
        assert "failed: call0: exit code 0, but there is no result.json" in text and "Traceback" not in text
        assert [record(name)["status"] for name in ("call0", "call1")] == ["failed", "completed"]

    def test_missing_requirements_are_reported_before_the_first_trial(
        self, seen: dict[str, str], tmp_path: Path
    ) -> None:
        seen["DISTDL_DATA"] = str(tmp_path)
        argv = ("--calls", "1", "--trainings", "2", "--data")
        assert '"digitz" is not known; did you mean "digits"?' in run(seen, *argv, "digitz", code=2)
        text = run(seen, *argv, "caltech101", code=2)
        with pytest.raises(UserError) as error:
            locate("caltech101", source_of("caltech101"), tmp_path)
        message = str(error.value).partition(" (")[0]
        assert text.startswith(f"error: study relay, trial train0: {message}") and text.count("\n") == 1
        assert not Path("study").exists()

    def test_a_failed_trial_is_tried_again_by_the_next_command(self, seen: dict[str, str]) -> None:
        for attempts in (1, 2):
            run(seen, "--calls", "2", "--fails", "call1", code=1)
            assert record("call1")["attempts"] == attempts
        assert record("call0")["attempts"] == 1

    def test_two_parallel_trials_have_separate_cores(self, seen: dict[str, str]) -> None:
        if len(os.sched_getaffinity(0)) < 2:
            pytest.skip("one core cannot be divided; a GPU machine has more")
        run(seen, "--calls", "2", "--seconds", "3", "--jobs", "2")
        results = [json.loads(Path(f"study/trials/call{i}/result.json").read_text())["cores"] for i in (0, 1)]
        assert results[0] and results[1] and not set(results[0]) & set(results[1])

    def test_each_rank_is_assigned_one_gpu(self, seen: dict[str, str]) -> None:
        run(seen, "--calls", "4", "--seconds", "0.5", "--gpus", "5,7")
        gpus = {json.loads(Path(f"study/trials/call{i}/result.json").read_text())["gpus"] for i in range(4)}
        assert gpus == {"5", "7"}
        text = run(seen, "--calls", "1", "--trainings", "2", "--gpus", "5", out="other", code=2)
        assert "error: trial train1 needs 2 GPUs, but --gpus lists 1" in text

    @pytest.mark.slow
    def test_a_stopped_runner_saves_and_the_next_one_resumes(self, seen: dict[str, str]) -> None:
        argv = ("--calls", "0", "--trainings", "2", "--steps", "200000", "--jobs", "2")
        folders = [Path(f"study/trials/train{index}") for index in (0, 1)]
        reached = [0, 0]
        for attempt in (1, 2):
            process = start(seen, *argv)
            previous = list(zip(folders, reached, strict=True))
            wait_for(
                lambda then=previous: all(newest(folder)[0] > step for folder, step in then), 90, "new checkpoints"
            )
            process.send_signal(signal.SIGTERM)
            text, _ = process.communicate(timeout=90)
            assert process.returncode == 75, text
            assert "stopped: train0: run the same command to resume it" in text
            for place, folder in enumerate(folders):
                assert (record(folder.name)["status"], record(folder.name)["attempts"]) == ("stopped", attempt)
                result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
                assert (result["status"], result["resumes"]) == ("stopped", attempt - 1)
                assert reached[place] < result["steps"] < 200000
                reached[place] = result["steps"]


class TestSharedFolder:
    @pytest.mark.slow
    def test_after_random_kills_every_trial_is_completed_once(self, seen: dict[str, str]) -> None:
        argv = ("--calls", "12", "--trainings", "4", "--seconds", "0.7", "--steps", "400", "--jobs", "2")
        rng = random.Random(7)
        runners = [start(seen, *argv) for _ in range(3)]
        for _ in range(20):
            time.sleep(rng.uniform(0.3, 1.5))
            place = rng.randrange(3)
            victim = runners[place]
            training = [each for each in marked() if "/train" in each[1]]
            if rng.random() < 0.3 and training:
                kill(rng.choice(training)[0])
            else:
                victim.kill()
                victim.communicate()
                runners[place] = start(seen, *argv)
        for runner in runners:
            text, _ = runner.communicate(timeout=180)
            assert runner.returncode in (0, 1), text
        run(seen, *argv)  # a trial that was killed without its runner has failed: it is tried again now
        happened = journal()
        wrong = {key: count for key, count in happened.items() if key[1] != "begin"}
        assert not wrong
        for name in (f"call{index}" for index in range(12)):
            assert record(name)["status"] == "completed"
            assert happened[name, "begin"] <= record(name)["attempts"]
        for name in (f"train{index}" for index in range(4)):
            result = json.loads(Path(f"study/trials/{name}/result.json").read_text(encoding="utf-8"))
            assert (result["status"], result["steps"]) == ("completed", 400)
            rows = [row["step"] for row in read_rows(Path(f"study/trials/{name}/metrics.jsonl"))]
            assert rows == sorted(rows), "two wrote the same run folder"
        assert not marked(), "a trial's process is left"

    def test_other_settings_are_refused_and_no_settings_mean_the_stored_ones(self, seen: dict[str, str]) -> None:
        run(seen, "--calls", "1")
        text = run(seen, "--calls", "2", code=2)
        assert "contains this study with calls = 1, not 2" in text and text.count("\n") == 1
        assert "1 trials were completed." in run(seen)

    def test_a_runner_without_a_trial_to_start_exits_with_leave(self, seen: dict[str, str]) -> None:
        first = start(seen, "--calls", "1", "--seconds", "20")
        wait_for(lambda: journal()[("call0", "begin")] == 1, 60, "the first to begin")
        run(seen, "--calls", "1", "--seconds", "20", "--leave")
        assert first.poll() is None
        first.terminate()
        first.communicate(timeout=60)
        assert first.returncode == 75


def marked() -> list[tuple[int, str]]:
    """Processes of this test's trials, with their folders."""
    processes = []
    for process in psutil.process_iter():
        try:
            folder = process.environ().get(MARK, "")
        except (psutil.Error, OSError):
            continue
        if folder.startswith(str(Path.cwd())):
            processes.append((process.pid, folder))
    return processes


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_the_launcher_follows_the_configuration_of_the_trial(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('extends = "digits"\nstrategy = "horovod"\n', encoding="utf-8")
    in_profile = Trial(name="a", recipe=Recipe(profile=str(file)), ranks=2)
    assert "horovodrun" in command(in_profile, tmp_path)[0]
    overridden = Trial(name="a", recipe=Recipe(profile=str(file), overrides={"strategy": "ddp"}), ranks=2)
    assert command(overridden, tmp_path)[1:4] == ["-P", "-m", "distdl.launchers.agent"]


def test_a_training_is_a_command_line_with_its_overrides(tmp_path: Path) -> None:
    recipe = Recipe(profile="digits", overrides={"optim.lr": 0.5, "schedule.milestones": (1, 2), "out": "elsewhere"})
    argv = command(Trial(name="a", recipe=recipe), tmp_path)
    assert argv[1:] == [
        *("-P", "-m", "distdl.train", "--profile", "digits", "--optim.lr", "0.5", "--schedule.milestones", "1", "2"),
        *("--out", str(tmp_path), "--resume", "auto"),
    ]


def test_a_host_is_divided_into_equal_shares() -> None:
    assert shares(2, [0, 1, 2, 3, 4]) == [HostShare(cores=(0, 1)), HostShare(cores=(2, 3))]
    assert shares(4, [0, 1]) == [HostShare(cores=(0, 1))] * 4


def test_a_trial_does_not_inherit_the_rank_of_its_runner() -> None:
    outer = {
        "RANK": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "OMPI_COMM_WORLD_SIZE": "4",
        "HOME": "/root",
        "SLURM_JOB_ID": "7",
    }
    inner = trial_environment(outer, Path("/study/trials/a"), HostShare(gpus=("2", "3")))
    assert set(inner) >= {"HOME", "SLURM_JOB_ID"} and not {"RANK", "SLURM_STEP_NUM_TASKS"} & set(inner)
    assert inner["CUDA_VISIBLE_DEVICES"] == "2,3"

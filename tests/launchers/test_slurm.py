"""launch/: its scripts are valid and equal to what `distdl submit` writes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from debian import needs
from distdl.cli.__main__ import main
from distdl.core.errors import UserError
from distdl.core.profiles import Recipe
from distdl.launchers import slurm
from distdl.launchers.slurm import Submission, parse_time, script, warning_s
from repository import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("slurm/*.sbatch")])
UNUSUAL = Submission(
    recipe=Recipe(profile="my profile.toml", overrides={"name": "it's $HOME"}),
    run="runs/a b",
    logs="runs/a b",
    name="digits",
    gpus=2,
    nproc=2,
    options=("partition=gpu",),
)


def shellcheck(file: Path) -> None:
    done = subprocess.run([needs("shellcheck", program="shellcheck"), str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_shellcheck_finds_nothing(file: Path) -> None:
    shellcheck(file)
    assert max(map(len, file.read_text(encoding="utf-8").splitlines())) <= 120


def test_shellcheck_finds_nothing_in_the_script_of_submit(tmp_path: Path) -> None:
    file = tmp_path / "job.sbatch"
    # A quoted dollar is part of an argument here; shellcheck reports it as a mistake.
    file.write_text(script(UNUSUAL).replace("$HOME", "home"), encoding="utf-8")
    shellcheck(file)


@pytest.mark.parametrize(("name", "job"), [("requeue", slurm.REQUEUE), ("array", slurm.ARRAY)])
def test_submit_writes_the_scripts_of_launch(name: str, job: Submission) -> None:
    assert (LAUNCH / "slurm" / f"{name}.sbatch").read_text(encoding="utf-8") == script(job)


def test_arguments_arrive_unchanged() -> None:
    text = script(UNUSUAL)
    lines = [line for line in text.splitlines() if line.startswith(("run=", "train="))]
    output = subprocess.run(
        ["bash", "-c", "\n".join([*lines, 'printf "%s\\n" "${train[@]}"'])], capture_output=True, text=True, check=True
    )
    assert output.stdout.splitlines() == [
        "--profile",
        "my profile.toml",
        "--name",
        "it's $HOME",
        "--out",
        "runs/a b",
        "--resume",
        "auto",
    ]
    assert "#SBATCH --partition=gpu\n" in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("40", 2400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-0:30", 88200), ("1-12:00:05", 129605)],
)
def test_times_of_slurm_are_parsed(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


def test_the_warning_time_is_a_small_part_of_a_slice() -> None:
    assert [warning_s(time_s) for time_s in (60, 240, 480, 2400, 86400)] == [15, 60, 120, 120, 120]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--time", "soon"], '--time "soon" is not a time that Slurm accepts'),
        (["--time", "0:30"], "less than a minute"),
        (["--time", "0"], "less than a minute"),
        (
            ["--time", ""],
            "--time is empty: give it a value, or omit it (length of a slice in Slurm's notation (40, 2:00",
        ),
        (["--time", " "], '--time " " is not a time that Slurm accepts: write 40 (minutes), 2:00:00 or 1-12:00:00'),
        (["--time", "-5"], '--time "-5" is not a time'),
        (["--time", "1:2:3:4"], '--time "1:2:3:4" is not a time'),
        (["--array", ""], "--array is empty"),
        (["--array", "1..4"], '--array "1..4" is not a list of indices'),
        (["--array", "\u0660-\u0664"], "is not a list of indices"),
        (["--array", "9" * 5000], "is not a list of indices: write 0-4, 0,2,5 or 0-9%2"),
        (["--time", "9" * 5000], "is not a time that Slurm accepts: write 40 (minutes), 2:00:00"),
        (["--time", "\u0661\u0662"], "is not a time that Slurm accepts"),
        (["--sbatch", "partition=a b"], "is not an option of sbatch"),
        (["--nodes", "0"], "--nodes = 0: must be greater than 0"),
        (["--profile", "digitz"], 'did you mean "digits"?'),
        (["--", "--out", "x"], "--out cannot be given after --"),
        (["--array", "0-1", "--", "--seed=3"], "it is the index of the array"),
        (["--", "--strategy", "horovod"], "srun does not start Horovod"),
    ],
)
def test_invalid_input_is_a_one_line_error(argv: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distdl.cli", "submit", "--dry-run", *argv], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_lifetime_and_slice_of_the_profile() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distdl.cli", "submit", "--dry-run"], capture_output=True, text=True, check=True
    )
    assert "#SBATCH --time=40 --signal=USR2@120" in done.stdout
    assert not list(Path().iterdir()), "a dry run writes nothing"


RESERVED = [
    "array=0-2",
    "output=x",
    "error=x",
    "signal=USR1@5",
    "requeue",
    "no-requeue",
    "open-mode=truncate",
    "nodes=2",
]
RESERVED += [
    "ntasks-per-node=2",
    "ntasks=2",
    "gpus-per-node=1",
    "gpus=2",
    "gpus-per-task=1",
    "job-name=x",
    "time=5",
    "chdir=/tmp",
]
ABBREVIATED = [
    "arr=0-2",
    "a=0-2",
    "out=x",
    "o=x",
    "sig=USR1",
    "requ",
    "no-req",
    "open=append",
    "err=x",
    "jo=x",
    "chd=/tmp",
]
FREE = [
    "partition=gpu",
    "account=me",
    "mem=4G",
    "cpus-per-task=8",
    "export=NONE",
    "time-min=5",
    "nodelist=a",
    "nice",
    "qos=x",
]


@pytest.mark.parametrize("option", RESERVED + ABBREVIATED)
def test_options_that_the_script_sets_are_refused(option: str) -> None:
    with pytest.raises(UserError, match="conflicts with") as refused:
        script(replace(UNUSUAL, options=("partition=gpu", option)))
    assert f'"{option}"' in str(refused.value)


@pytest.mark.parametrize("job", [slurm.REQUEUE, slurm.ARRAY, replace(slurm.ARRAY, gpus=1)])
def test_every_directive_of_a_script_is_refused_as_an_option(job: Submission) -> None:
    for name in slurm.script_options(script(job)):
        with pytest.raises(UserError, match="conflicts with"):
            script(replace(job, options=(f"{name}=1",)))


@pytest.mark.parametrize("option", FREE)
def test_other_options_are_passed_to_sbatch(option: str) -> None:
    assert f"#SBATCH --{option}\n" in script(replace(UNUSUAL, options=(option,)))


@pytest.mark.parametrize(
    ("folder", "message"),
    [("a\nb", "line break"), ("a\x1bb", "control character"), ("a\x85b", "control character"), ("a\\b", "backslash")],
)
def test_a_folder_that_slurm_cannot_name_is_refused_before_anything_is_written(folder: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        slurm.submit(replace(UNUSUAL, run=folder, logs=folder))
    assert str(refused.value).isprintable()
    assert not list(Path().iterdir())


def test_a_profile_with_a_command_in_its_name_writes_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.toml").write_text('extends = "digits"\nname = "x\\ntouch owned\\n#"\n', encoding="utf-8")
    code = main(["submit", "--profile", "evil.toml", "--dry-run"])
    output = capsys.readouterr()
    assert "touch owned" not in output.out.splitlines()
    assert code == 2
    assert len(output.err.splitlines()) == 1


def test_a_run_folder_that_cannot_be_created_is_a_one_line_error() -> None:
    Path("file").write_text("", encoding="utf-8")
    for folder in ("file", "file/run"):
        with pytest.raises(UserError, match=f"cannot create the run folder {folder}"):
            slurm.submit(replace(UNUSUAL, run=folder, logs=folder))


@pytest.mark.parametrize(
    ("hostfile", "message"),
    [
        ("# none\n\n", "no host"),
        ("h0 slots=x\n", "line 1: write HOST slots=RANKS"),
        ("h0\nh1 slots=2 max=3\n", "line 2"),
        ("-oX slots=1\n", "line 1"),
        ("h0:4\n", "line 1"),
    ],
)
def test_an_invalid_hostfile_is_a_one_line_error(hostfile: str, message: str) -> None:
    Path("hostfile").write_text(hostfile, encoding="utf-8")
    done = subprocess.run(["sh", str(LAUNCH / "horovodrun.sh")], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("sbatch: error: first\nsbatch: error: second\nsbatch: fatal: third\n", "first"),
        ("\n  sbatch: fatal: no configuration\n", "sbatch: fatal: no configuration"),
        ("", "it printed no job id"),
    ],
)
def test_an_error_of_sbatch_is_reported_by_its_first_message(
    printed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "sbatch"
    (tmp_path / "messages").write_text(printed)
    program.write_text(f"#!/bin/sh\ncat {tmp_path / 'messages'} >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert main(["submit", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"error: sbatch did not submit the job: {message}\n"
    assert not (tmp_path / "run").exists()


def test_a_missing_sbatch_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", "--out", str(tmp_path / "run")]) == 2
    message = "sbatch was not found: submit from a login node, or print the script with --dry-run"
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("job", [slurm.REQUEUE, slurm.ARRAY])
def test_comments_of_the_script_fit_80_columns(job: Submission) -> None:
    comments = [line for line in script(job).splitlines() if line.startswith("# ")]
    assert len(comments) > 10 and max(map(len, comments)) <= 80

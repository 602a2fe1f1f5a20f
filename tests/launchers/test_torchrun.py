"""`python -m distdl.launchers.torchrun`: torchrun, silent after a clean stop, and otherwise with its report."""

import os
import signal
import subprocess
import sys

import pytest

from distdl.launchers.torchrun import code_of

TORCHRUN = [sys.executable, "-m", "distdl.launchers.torchrun", "--standalone", "--nproc_per_node=2", "--no-python"]

UNTIL_SIGTERM = ("trap 'echo stopped; exit 75' TERM; exec 2> /dev/null", "while :; do sleep 0.1; done")
"""Beginning and end of a script that stops cleanly. The shell reports a killed `sleep`; torchrun reads $$ as $."""


def ranks(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as each of two ranks."""
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | variables
    return subprocess.run([*TORCHRUN, "sh", "-c", script], env=environ, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("code", [0, 2, 75])
def test_ranks_that_completed_stopped_or_reported_their_error_are_followed_by_nothing(code: int) -> None:
    done = ranks(f"echo printed; echo error >&2; exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "printed\n" * 2, "error\n" * 2)


def test_a_rank_that_stops_first_does_not_make_the_other_one_a_failure() -> None:
    done = ranks(f"{UNTIL_SIGTERM[0]}; test $RANK = 0 && exit 75; {UNTIL_SIGTERM[1]}")
    assert (done.returncode, done.stdout, done.stderr) == (75, "stopped\n", "")


def test_a_rank_that_fails_is_in_the_report_of_torchrun() -> None:
    done = ranks(f"{UNTIL_SIGTERM[0]}; test $RANK = 1 && kill -KILL $$$$; {UNTIL_SIGTERM[1]}")
    assert done.returncode == 1
    report = done.stderr[done.stderr.index("sh FAILED") :]
    assert "exitcode  : -9" in report and "Signal 9 (SIGKILL) received by PID" in report
    assert "failed (exitcode: -9) local_rank: 1" in done.stderr
    assert "Traceback" not in done.stderr, "of torchrun itself"


def test_a_signal_reaches_the_ranks_and_is_followed_by_nothing() -> None:
    script = f"{UNTIL_SIGTERM[0]}; echo started; {UNTIL_SIGTERM[1]}"
    process = subprocess.Popen(
        [*TORCHRUN, "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["started\n"] * 2
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (143, "stopped\n" * 2, "")


def test_further_signals_reach_the_ranks_and_cause_no_traceback() -> None:
    script = (
        "count=0; trap 'count=$((count + 1)); echo $count; test $count = 4 && exit 1' TERM; exec 2> /dev/null; "
        "echo started; while :; do sleep 0.1; done"
    )
    with subprocess.Popen(
        [*TORCHRUN, "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n"] * 2
        for count in range(1, 5):
            process.send_signal(signal.SIGTERM)
            assert [process.stdout.readline() for _ in range(2)] == [f"{count}\n"] * 2
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "")


def test_threads_and_signals_are_set_without_a_warning_unless_the_user_has_set_them() -> None:
    script = "echo $OMP_NUM_THREADS $TORCHELASTIC_SIGNALS_TO_HANDLE"
    done = ranks(script)
    assert (done.stdout, done.stderr) == ("1 SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2\n" * 2, "")
    done = ranks(script, OMP_NUM_THREADS="3", PET_SIGNALS_TO_HANDLE="SIGTERM")
    assert (done.stdout, done.stderr) == ("3 SIGTERM\n" * 2, "")


def test_a_wrong_option_is_reported_by_torchrun() -> None:
    done = subprocess.run([*TORCHRUN[:3], "--nodes", "x", "a"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "error: ambiguous option: --nodes" in done.stderr or "error: unrecognized" in done.stderr


@pytest.mark.parametrize(
    ("codes", "first", "code"),
    [([75, 75], 75, 75), ([75, 1], 75, 1), ([75, -15], 75, 1), ([2, -15], 2, 2), ([1, 2], 1, 1), ([-9], -9, 1)],
)
def test_the_code_of_the_job_is_that_of_its_ranks(codes: list[int], first: int, code: int) -> None:
    assert code_of(codes, first) == code

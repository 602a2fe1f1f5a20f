"""`python -m distdl.launchers.agent`: the ranks of one host, silent after a clean stop."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from distdl.core.errors import UserError
from distdl.launchers.agent import AgentOptions, job_code, parse, rank_variables
from jobs import wait_for

AGENT = [sys.executable, "-m", "distdl.launchers.agent", "--nproc-per-node=2"]
UNTIL_SIGTERM = ("trap 'echo stopped; exit 75' TERM; exec 2> /dev/null", "while :; do sleep 0.1; done")
"""Beginning and end of a script that stops cleanly. The shell reports a killed `sleep`."""
ENVIRON = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def ranks(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as each of two ranks."""
    argv = [*AGENT, "sh", "-c", script]
    return subprocess.run(argv, env=ENVIRON | variables, capture_output=True, text=True, timeout=120)


def started(script: str, count: int = 2) -> subprocess.Popen[str]:
    """Start the script, which prints a line when it is ready, as each of two ranks."""
    process = subprocess.Popen(
        [*AGENT, "sh", "-c", script], env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(count)] == ["started\n"] * count
    return process


@pytest.mark.parametrize("code", [0, 2, 75])
def test_ranks_that_completed_stopped_or_reported_their_error_are_followed_by_nothing(code: int) -> None:
    both = "touch ended-$RANK; until test -e ended-0 -a -e ended-1; do sleep 0.01; done"
    done = ranks(f"echo printed; echo error >&2; {both}; exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "printed\n" * 2, "error\n" * 2)


def test_a_rank_that_stops_first_leaves_the_other_one_time_to_stop() -> None:
    other = "kill -0 $(cat first) || break; sleep 0.01"
    script = f"{UNTIL_SIGTERM[0]}; test $RANK = 0 && echo $$ > new && mv new first && exit 75; "
    done = ranks(f"{script} until test -e first; do sleep 0.01; done; while :; do {other}; done; echo own; exit 75")
    assert (done.returncode, done.stdout, done.stderr) == (75, "own\n", "")


@pytest.mark.parametrize(
    ("end", "message"),
    [("kill -KILL $$", "was ended by SIGKILL"), ("exit 3", "has failed with exit code 3: its output is above")],
)
def test_a_rank_that_fails_ends_the_others_and_is_named(end: str, message: str) -> None:
    done = ranks(f"{UNTIL_SIGTERM[0]}; test $RANK = 1 && {end}; {UNTIL_SIGTERM[1]}")
    assert (done.returncode, done.stdout) == (1, "stopped\n")
    assert done.stderr.startswith("error: rank 1 (pid ") and done.stderr.endswith(f") {message}\n")
    assert done.stderr.count("\n") == 1


def test_a_rank_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    from distdl.launchers import agent, run

    monkeypatch.setattr(run, "GRACE_S", 0.2)
    stubborn = ["sh", "-c", "trap '' TERM; test $RANK = 0 && exit 5; while :; do sleep 0.1; done"]
    variables = [{**ENVIRON, "RANK": str(rank)} for rank in range(2)]
    assert agent.run(stubborn, variables) == 1


def test_a_failure_on_another_host_ends_the_ranks() -> None:
    from distdl.launchers import agent

    script = ["sh", "-c", f"{UNTIL_SIGTERM[0]}; {UNTIL_SIGTERM[1]}"]
    assert agent.run(script, [{**ENVIRON, "RANK": "0"}], lambda: True) in (1, 75)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2])
def test_a_signal_reaches_the_ranks_and_is_followed_by_nothing(number: int) -> None:
    name = signal.Signals(number).name.removeprefix("SIG")
    script = f"trap 'echo {name}; exit 75' {name}; exec 2> /dev/null; echo started; while :; do sleep 0.1; done"
    process = started(script)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (75, f"{name}\n" * 2, "")


def test_further_signals_reach_the_ranks_and_cause_no_traceback() -> None:
    process = started(
        "count=0; trap 'count=$((count + 1)); echo $count; test $count = 4 && exit 1' TERM; exec 2> /dev/null; "
        "echo started; while :; do sleep 0.1; done"
    )
    with process:
        assert process.stdout is not None
        for count in range(1, 5):
            process.send_signal(signal.SIGTERM)
            assert [process.stdout.readline() for _ in range(2)] == [f"{count}\n"] * 2
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "")


def test_ctrl_c_in_a_terminal_reaches_a_rank_once() -> None:
    """The terminal sends SIGINT to the process group of the agent, in which the ranks are not."""
    process = started("trap 'echo INT; exit 75' INT; exec 2> /dev/null; echo started; while :; do sleep 0.1; done")
    children = psutil.Process(process.pid).children()
    assert len({os.getpgid(child.pid) for child in children} | {os.getpgid(process.pid)}) == 3
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "INT\n" * 2


def test_a_training_ends_with_its_agent() -> None:
    argv = [*AGENT, "-m", "distdl.train", "--profile", "digits", "--epochs", "100000", "--progress", "none"]
    argv += ["--telemetry.hz", "0", "--out", "run"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(Path("run/metrics.jsonl").exists, 120, "the first step")
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert len(children) >= 2
    assert psutil.wait_procs(children, 60)[1] == []


def variables(*argv: str, number: int = 0, **environ: str) -> list[dict[str, str]]:
    return rank_variables(parse(argv, environ), environ, number, "127.0.0.1:1")


def test_ranks_have_torchruns_variables() -> None:
    key = "0" * 64
    place = ("--nnodes", "3", "--master-addr", "node01", "--nproc-per-node", "2", "true")
    (first, second) = variables(*place, number=2, DISTDL_KEY=key)
    assert (first["RANK"], second["RANK"]) == ("4", "5")
    assert (first["LOCAL_RANK"], second["LOCAL_RANK"]) == ("0", "1")
    assert {each["WORLD_SIZE"] for each in (first, second)} == {"6"}
    assert {each["LOCAL_WORLD_SIZE"] for each in (first, second)} == {"2"}
    assert {each["MASTER_ADDR"] for each in (first, second)} == {"node01"}
    assert "GLOO_SOCKET_IFNAME" not in first
    assert first["DISTDL_STORE"] == "127.0.0.1:1"


def test_threads_and_the_interface_are_those_of_the_user_or_a_default() -> None:
    assert [each["OMP_NUM_THREADS"] for each in variables("--nproc-per-node=2", "true")] == ["1", "1"]
    assert "OMP_NUM_THREADS" not in variables("true")[0]
    assert variables("true")[0]["GLOO_SOCKET_IFNAME"] == "lo"
    (environ,) = variables("true", OMP_NUM_THREADS="3", GLOO_SOCKET_IFNAME="eth0")
    assert (environ["OMP_NUM_THREADS"], environ["GLOO_SOCKET_IFNAME"]) == ("3", "eth0")


def options(*argv: str, **environ: str) -> AgentOptions:
    return parse(argv, environ)


def test_a_single_host_draws_a_key_and_several_need_a_common_one() -> None:
    assert options("true").key != options("true").key
    place = ("--nnodes", "2", "--master-addr", "a", "--nproc-per-node", "2")
    common = {"DISTDL_KEY": "ab" * 32}
    assert options(*place, "true", **common).key == options(*place, "true", **common).key
    assert options(*place, "true", **common).key != options(*place, "false", **common).key, (
        "another command is another job"
    )
    with pytest.raises(UserError, match="several hosts need a common key"):
        options(*place, "true")
    with pytest.raises(UserError, match=r"DISTDL_KEY has no key: it must be 64 hexadecimal digits"):
        options(*place, "true", DISTDL_KEY="secret")


def test_a_module_is_imported_from_the_installed_packages_only() -> None:
    assert options("-m", "distdl.train", "-x").program == (sys.executable, "-P", "-m", "distdl.train", "-x")
    assert options("sh", "-c", "exit").program == ("sh", "-c", "exit")


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([75, 75], 75), ([0, 75], 75), ([75, 1], 1), ([75, -15], 1), ([2, -15], 2), ([1, 2], 1), ([-9], 1)],
)
def test_the_code_of_the_job_is_that_of_its_ranks(codes: Sequence[int], code: int) -> None:
    assert job_code(codes) == code


class Recorder:
    """Remembers what this host reports when it leaves the job."""

    number, port, reports = 0, 1, ()

    def __init__(self, *_: object) -> None: ...

    def has_failed(self) -> bool:
        return False

    def leave(self, *, failed: bool) -> None:
        Recorder.reports = (*Recorder.reports, failed)


@pytest.mark.parametrize(("code", "failed"), [(0, False), (75, False), (1, True), (2, True), (3, True)])
def test_the_others_are_told_whether_the_ranks_of_this_host_failed(
    code: int, failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distdl.launchers import agent

    monkeypatch.setattr(agent, "Members", Recorder)
    monkeypatch.setattr(agent, "run", lambda *_: code)
    monkeypatch.setattr(Recorder, "reports", ())
    argv = ["--nproc-per-node=1", "--nnodes=2", "--node-rank=0", "--master-addr=127.0.0.1", "true"]
    assert agent.main(argv, {"DISTDL_KEY": "0" * 64}) == code
    assert Recorder.reports == (failed,)

"""`distdl launch`: the printed command is valid in a shell, and trainings run."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import terminal
from debian import needs
from distdl.cli import launch as launch_verb
from distdl.cli.__main__ import main
from distdl.core.registry import rows
from distdl.launchers.commands import direct, make_commands
from distdl.launchers.job import Command, Job
from distdl.launchers.netns import Hosts
from jobs import QUIET, step_of, wait_for
from repository import ROOT

LAUNCHERS = list(rows("launchers"))
LAUNCH = [sys.executable, "-m", "distdl.cli", "launch"]
SCRIPTS = ROOT / "launch"
IN_ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}
Dry = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("--profile", "digits", "--max-steps", "8", *QUIET)


def launch(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAUNCH, *argv], capture_output=True, text=True, timeout=600, **options)


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Dry:
    """Runs `distdl launch --dry-run ARGV` in this process, which has imported everything."""

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        code = main(["launch", "--dry-run", *argv])
        return subprocess.CompletedProcess(argv, code, *capsys.readouterr())

    return run


def completed(run: Path, *, ranks: int, strategy: str) -> None:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["world_size"], result["strategy"]) == ("completed", ranks, strategy)


def refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    """Assert that the call ended with a one-line error, before anything was printed or started."""
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_printed_line_is_the_command_that_runs(launcher: str) -> None:
    job = Job(argv=("--name", 'it\'s; rm -rf "$HOME" &'), hosts=("h0", "h1"), nproc=2, directory="/a folder")
    for command in make_commands(launcher, job):
        argv = shlex.split(command.shell())
        assert argv[len(argv) - len(command.argv) :] == list(command.argv)


def test_arguments_arrive_unchanged_through_ssh() -> None:
    command = Command(argv=("prog", "it's", "$HOME"), env={"A": "b c"}, files={"list": "one 1\ntwo 2\n"})
    far = command.on("h1", "/a folder", "/python").argv
    assert far[:4] == ("ssh", "-T", "--", "h1")
    # The remote shell parses the line into the same arguments.
    assert shlex.split(far[4].split(" && ")[0]) == ["cd", "/a folder"]
    remote = ["/python", "-P", "-m", "distdl.launchers.remote"]
    assert shlex.split(far[4].split(" && ")[2]) == ["A=b c", *remote, "prog", "it's", "$HOME"]


def test_secrets_are_in_no_command_line_and_in_no_printed_text() -> None:
    command = Command(argv=("prog",), secrets={"KEY": "hidden"})
    far = command.on("h1")
    assert "hidden" not in f"{command} {command.shell()} {far} {far.shell()} {far.argv}"
    printed = far.shell().partition("; cat; }")[0].removeprefix("{ ")
    done = subprocess.run(["sh", "-c", printed], env={"KEY": "hidden"}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"KEY": "hidden"}


def test_the_printed_line_also_writes_files_that_the_command_reads(tmp_path: Path) -> None:
    command = Command(argv=("cat", "a list"), files={"a list": "one 1\ntwo 2\n"})
    done = subprocess.run(["sh", "-c", command.shell()], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "one 1\ntwo 2\n"


def test_a_dry_run_only_prints() -> None:
    done = launch("--with", "srun", "--hosts", "a,b", "--nproc", "4", "--dry-run", "--", "--profile", "digits")
    assert done.returncode == 0, done.stderr
    assert "--nodelist=a,b --ntasks=8 --ntasks-per-node=4" in done.stdout
    assert done.stdout.rstrip().endswith("-m distdl.train --profile digits")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nproc", "0"], "--nproc = 0: must be greater than 0"),
        (["--with", "netns", "--hosts", "h0,h1"], "--hosts 3"),
        (["--hosts", "localhost,h1"], "network name instead of localhost"),
        (["--with", "mpirum"], "mpirun"),
        (["--", "--optim.lrr", "1"], "did you mean --optim.lr?"),
        (["--", "--profile", "digitz"], 'did you mean "digits"?'),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(argv: list[str], message: str) -> None:
    done = launch("--dry-run", *argv)
    refused(done, message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--hosts", "a b"], '"a b" is not a host name'),
        (["--hosts", "a,a"], '"a" is listed twice'),
        (["--hosts=-oProxyCommand=true,h2"], '"-oProxyCommand=true" is not a host name'),
        (["--hosts", "node[01-04"], "brackets do not match"),
        (["--hosts", ","], "names no host"),
        (["--hosts", ""], "--hosts is empty: give it a value, or omit it (host names as in node01,node02"),
        (["--interface", ""], "--interface is empty"),
        (["--hosts", "localhost.localdomain,h1"], "network name instead of localhost"),
        (["--with", "mpirun", "--hosts", "fe80::1,h1"], "does not accept IPv6 addresses"),
        (["--port", "65536"], "--port = 65536: must be less than 65536"),
        (["--with", "netns", "--hosts", "9999999999999"], "needs the number of hosts"),
        (["--with", "netns", "--hosts", "3", "--rate", "fast"], '"fast" is not a rate'),
        (["--with", "deepspeed", "--", "--strategy", "ddp"], "starts strategy deepspeed, but strategy is ddp"),
        (["--with", "horovodrun", "--", "--strategy=ps"], "starts strategy horovod, but strategy is ps"),
        (["--", "--strategy", "horovod"], "use --with horovodrun"),
        (["--with", "srun", "--", "--strategy", "horovod"], "use --with horovodrun"),
        (["--nproc", "2", "--", "--strategy", "single"], "takes one process"),
    ],
)
def test_invalid_hosts_and_strategies_are_a_one_line_error(dry: Dry, argv: list[str], message: str) -> None:
    done = dry(*argv)
    refused(done, message)


@pytest.mark.parametrize(
    ("program", "wrong"), [("deepspeed", "ddp"), ("horovodrun", "deepspeed"), ("netns", "horovod")]
)
def test_a_strategy_of_the_profile_must_fit_the_launcher(dry: Dry, program: str, wrong: str) -> None:
    Path("p.toml").write_text(f'extends = "digits"\nstrategy = "{wrong}"\n', encoding="utf-8")
    done = dry("--with", program, "--hosts", "2" if program == "netns" else "a,b", "--", "--profile", "p.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert wrong in done.stderr


def test_the_strategy_deepspeed_is_added_if_the_profile_sets_none(dry: Dry) -> None:
    argv = ("--with", "deepspeed", "--hosts", "a,b", "--")
    assert dry(*argv, "--profile", "digits").stdout.count("--strategy deepspeed") == 2
    named = dry(*argv, "--strategy", "deepspeed")
    assert named.stdout.count("--strategy deepspeed") == 2


@pytest.mark.parametrize("program", [program for program in LAUNCHERS if program != "horovodrun"])
def test_each_launch_has_its_own_key_which_is_not_printed(dry: Dry, program: str) -> None:
    hosts = "2" if program == "netns" else "node[01-02]"
    done = dry("--with", program, "--hosts", hosts, "--", "--profile", "digits")
    assert done.stdout.splitlines()[0] == launch_verb.NEW_KEY
    jobs = [Job(hosts=("h0", "h1")) for _ in range(2)]
    keys = [{command.secrets["DISTDL_KEY"] for command in make_commands(program, job)} for job in jobs]
    assert [len(each) for each in keys] == [1, 1], "all hosts have the same key"
    assert keys[0] != keys[1]
    assert not any(key in done.stdout for each in keys for key in each)


def test_the_line_before_the_commands_makes_a_key() -> None:
    script = f"{launch_verb.NEW_KEY}\nprintenv DISTDL_KEY"
    printed = [subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout.strip() for _ in range(2)]
    assert all(len(bytes.fromhex(key)) == 32 for key in printed) and printed[0] != printed[1]


def test_the_port_of_the_user_is_used(dry: Dry) -> None:
    done = dry("--hosts", "a,b", "--port", "4321", "--", "--profile", "digits")
    assert done.stdout.count("--master-addr=a --master-port=4321") == 2


@pytest.mark.parametrize("program", ["direct", "horovodrun", "mpirun", "srun", "deepspeed"])
def test_brackets_are_expanded_for_every_launcher(dry: Dry, program: str) -> None:
    def printed(hosts: str) -> str:
        done = dry("--with", program, "--hosts", hosts, "--nproc", "2", "--port", "4321", "--", "--name", "x")
        return re.sub(r"distdl-[0-9a-f]{16}", "ID", done.stdout)

    assert printed("node[01-02,05]-ib, x") == printed("node01-ib,node02-ib,node05-ib,x")
    assert "node05-ib" in printed("node[01-02,05]-ib, x")


def test_a_missing_launcher_is_a_one_line_error() -> None:
    folder = str(Path(sys.executable).parent)
    done = launch("--with", "srun", "--", "--profile", "digits", env={**os.environ, "PATH": folder})
    assert done.returncode == 2
    assert done.stderr == "error: srun was not found: is it installed and on PATH?\n"


def test_direct_trains_on_this_machine() -> None:
    done = launch("--nproc", "2", "--", *SHORT, "--out", "run")
    assert done.returncode == 0, done.stderr
    completed(Path("run"), ranks=2, strategy="ddp")


LONG = ("--profile", "digits", "--epochs", "100000", "--telemetry.hz", "0", "--compute.threads", "1")


def test_ctrl_c_ends_with_the_resume_command() -> None:
    """The terminal shows nothing but the launcher's command and the output of rank 0."""
    code, text = terminal.run([*LAUNCH, "--nproc", "2", "--", *LONG], 200, interrupt_at=" img/s")
    lines = [line for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines() if line.strip()]
    (run,) = Path("runs").glob("digits-*")
    command = f"python -m distdl.cli launch --nproc 2 -- {' '.join(LONG)} --out {run.resolve()} --resume auto"
    assert (code, lines[-1]) == (75, f"resume with: {command}"), text
    assert lines[-2].startswith("stopped (SIGTERM) at step ")
    assert lines[-3].startswith("run folder: ")
    assert lines[1].startswith(("warning: other programs use ", "digits: digits-cnn on digits, ddp, 2 ranks")), text
    assert text.count("resume with") == 1 and "Traceback" not in text and "OMP_NUM_THREADS" not in text
    assert "\x1b[1mdigits\x1b[0m" in text, "rank 0 writes to the terminal itself"
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["status"] == "stopped"
    again = launch(*shlex.split(command)[4:], "--max-time", "1", "--progress", "none", cwd="/")
    assert again.returncode == 75, "the command is valid in any folder"
    assert [line for line in again.stderr.splitlines() if not line.startswith("warning: ")] == []
    assert again.stdout.splitlines()[-1].startswith("resume with: python -m distdl.cli launch --nproc 2 -- ")
    refused_run = launch("--", "--out", str(run), "--epochs", "1")
    assert refused_run.returncode == 2
    assert refused_run.stderr.startswith("error: ") and refused_run.stderr.count("\n") == 1


def test_ctrl_c_before_the_training_has_started_is_one_line() -> None:
    argv = [*LAUNCH, "--nproc", "2", "--", *LONG, "--out", "run"]
    code, output = terminal.run(argv, 400, interrupt_at="\r\n")  # the end of the launcher's command
    assert (code, output.splitlines()[1:]) == (130, ["error: interrupted"])
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["horovodrun", "mpirun", "deepspeed"])
def test_other_launchers_train_on_this_machine(program: str) -> None:
    modules = {"horovodrun": "horovod", "deepspeed": "deepspeed"}
    if program in modules:
        pytest.importorskip(modules[program])
    if program == "mpirun":
        needs("openmpi-bin", program="mpirun")
    if program == "deepspeed":
        needs("g++", program="g++")
    done = launch("--with", program, "--nproc", "2", "--", *SHORT, "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    completed(Path("run"), ranks=2, strategy={"mpirun": "ddp"}.get(program, modules.get(program)))


@pytest.mark.slow
@pytest.mark.usefixtures("sshd")
class TestThreeHosts:
    """Launch over links of 1 Gbit/s, from the first of three machines."""

    @pytest.mark.parametrize("program", ["direct", "horovodrun", "mpirun"])
    def test_by_ssh(self, program: str) -> None:
        if program == "horovodrun":
            pytest.importorskip("horovod")
        if program == "mpirun":
            needs("openmpi-bin", program="mpirun")
        argv = ["--with", program, "--hosts", "h0,h1,h2", "--interface", "eth0", "--", *SHORT, "--out", "run"]
        with Hosts(3, ssh=True) as hosts:
            done = hosts.run([*LAUNCH, *argv], on=0, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        completed(Path("run"), ranks=3, strategy="horovod" if program == "horovodrun" else "ddp")

    @pytest.mark.parametrize("program", ["direct", "horovodrun", "mpirun"])
    def test_the_script_in_launch(self, program: str) -> None:
        if program == "horovodrun":
            pytest.importorskip("horovod")
        elif program == "mpirun":
            needs("openmpi-bin", program="mpirun")
        Path("hostfile").write_text("# three\nh0 slots=1\nh1 slots=1\nh2 slots=1\n", encoding="utf-8")
        command = ["sh", str(SCRIPTS / f"{program}.sh"), *SHORT, "--out", "run"]
        with Hosts(3, ssh=True) as hosts:
            started = [
                hosts.start(command, on, {**IN_ENVIRONMENT, "HOSTS": "3", "FIRST": "h0"})
                for on in range(3 if program == "direct" else 1)
            ]
            assert [process.wait(600) for process in started] == [0] * len(started)
        completed(Path("run"), ranks=3, strategy="horovod" if program == "horovodrun" else "ddp")

    def test_netns(self) -> None:
        done = launch("--with", "netns", "--hosts", "3", "--", *SHORT, "--out", "run")
        assert done.returncode == 0, done.stderr
        completed(Path("run"), ranks=3, strategy="ddp")
        assert "Exception" not in done.stderr
        assert "Traceback" not in done.stderr

    def test_an_interrupt_reaches_the_ranks_on_every_host(self) -> None:
        argv = ["--hosts", "h0,h1,h2", "--interface", "eth0", "--", "--profile", "digits", "--epochs", "1000"]
        with Hosts(3, ssh=True) as hosts:
            process = hosts.start([*LAUNCH, *argv, *QUIET, "--out", "run"], on=0, start_new_session=True)
            wait_for(lambda: step_of(Path("run")) > 0, 90, "the first step")
            process.send_signal(signal.SIGINT)
            assert process.wait(300) != 0
        result = json.loads(Path("run/result.json").read_text(encoding="utf-8"))
        assert result["status"] == "stopped"
        assert list(Path("run/checkpoints").glob("step-*"))


def test_a_process_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distdl.launchers import run

    monkeypatch.setattr(run, "GRACE_S", 0.3)
    file = tmp_path / "pid"
    fails = f"until test -s {file}; do sleep 0.01; done; exit 7"
    code = run.run(
        [Command(argv=("sh", "-c", fails)), Command(argv=("sh", "-c", f"echo $$ > {file}; exec sleep 1000"))]
    )
    assert code == 7
    assert not psutil.pid_exists(int(file.read_text()))


def test_the_name_of_this_machine_needs_no_ssh() -> None:
    hostname = socket.gethostname()
    near, far = direct(Job(hosts=(hostname, "elsewhere"), local_host=hostname))
    assert near.argv[:3] == ("python", "-P", "-m")
    assert far.argv[0] == "ssh"

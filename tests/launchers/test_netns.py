"""Emulated hosts on one machine: names, rate-limited links, and removal of all their resources."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from debian import needs
from distdl.core.errors import UserError
from distdl.launchers import netns
from distdl.launchers.netns import FILES, NAMESPACES, Hosts
from jobs import wait_for

OWNER = """
import sys, time
from distdl.launchers.netns import Hosts
hosts = Hosts(2).__enter__()
sleeper = hosts.start(["sleep", "1000"], on=1)
print(hosts.switch, sleeper.pid, flush=True)
time.sleep(1000)
"""


def leftovers(switch: str) -> list[Path]:
    stem = switch.removesuffix("switch")
    return [path for folder in (NAMESPACES, FILES) if folder.is_dir() for path in folder.glob(f"{stem}*")]


@pytest.mark.usefixtures("root")
class TestHosts:
    def test_hosts_reach_each_other_by_name(self) -> None:
        needs("iputils-ping", program="ping")
        links_before = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
        with Hosts(3) as hosts:
            assert [hosts.run(["hostname"], on=index).stdout for index in range(3)] == ["h0\n", "h1\n", "h2\n"]
            for name in ("h0", "h1"):
                assert hosts.run(["ping", "-q", "-c", "1", "-W", "2", name], on=2).returncode == 0
            during = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
        assert during == links_before, "the machine's own network has changed"
        assert leftovers(hosts.switch) == []

    def test_links_are_rate_limited_in_both_directions(self) -> None:
        with Hosts(2, "100mbit") as hosts:
            for namespace, device in ((hosts.hosts[1].namespace, "eth0"), (hosts.switch, "port1")):
                output = subprocess.run(
                    ["tc", "-n", namespace, "qdisc", "show", "dev", device], capture_output=True, text=True, check=True
                )
                assert "tbf" in output.stdout
                assert "rate 100Mbit" in output.stdout

    def test_an_error_inside_the_block_leaves_nothing_behind(self) -> None:
        with pytest.raises(ZeroDivisionError), Hosts(2) as hosts:
            sleeper = hosts.start(["sleep", "1000"], on=1)
            _ = 1 / 0
        assert sleeper.returncode == -signal.SIGKILL
        assert leftovers(hosts.switch) == []

    def test_the_next_start_removes_leftovers_of_a_killed_owner(self) -> None:
        with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
            switch, sleeper = owner.stdout.readline().split()
            owner.kill()
        assert len(leftovers(switch)) == 5  # three namespaces, two folders of files
        with Hosts(1):
            assert leftovers(switch) == []
        wait_for(lambda: not Path(f"/proc/{sleeper}").exists(), 5, "the end of what ran on the hosts")

    def test_hosts_of_a_running_owner_are_not_removed(self) -> None:
        with Hosts(1) as owned:
            code = "from distdl.launchers.netns import Hosts\nwith Hosts(1) as hosts: print(hosts.switch)"
            other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            assert other.stdout.strip() != owned.switch
            assert owned.run(["true"]).returncode == 0

    def test_a_name_whose_pid_is_reused_is_stale(self) -> None:
        name = f"distdl-{os.getpid()}-1-0-h0"  # this process did not start one tick after boot
        subprocess.run(["ip", "netns", "add", name], check=True)
        assert name in netns.clear_stale()
        assert not (NAMESPACES / name).exists()

    def test_a_command_is_killed_after_its_timeout(self) -> None:
        with Hosts(1) as hosts:
            with pytest.raises(subprocess.TimeoutExpired):
                hosts.run(["sleep", "1000"], timeout=0.2)

    @pytest.mark.usefixtures("sshd")
    def test_ssh_between_hosts_needs_no_password_and_finds_this_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "only-in-this-environment"
        program.write_text("#!/bin/sh\nhostname\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with Hosts(2, ssh=True) as hosts:
            done = hosts.run(["ssh", "h1", program.name], on=0, timeout=20)
            assert done.stdout == "h1\n", done.stderr
            assert done.stderr == ""
        assert leftovers(hosts.switch) == []

    def test_distdl_hosts_runs_a_command_on_every_host_and_reports_a_failure(self) -> None:
        verb = [sys.executable, "-m", "distdl.cli", "hosts", "--count", "2", "--"]
        done = subprocess.run(
            [*verb, "sh", "-c", 'echo "$0 is {host}"; exit {index}', "number {index}"], capture_output=True, text=True
        )
        assert sorted(done.stdout.splitlines()) == ["number 0 is h0", "number 1 is h1"]
        assert done.returncode == 1

    def test_distdl_hosts_removes_its_hosts_when_terminated(self) -> None:
        verb = [sys.executable, "-m", "distdl.cli", "hosts", "--count", "2", "--"]
        command = [*verb, "sh", "-c", "echo ready; exec sleep 1000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            stem = f"distdl-{process.pid}-"
            assert list(NAMESPACES.glob(f"{stem}*"))
            process.terminate()
            assert process.wait(20) == 128 + signal.SIGTERM
        assert not list(NAMESPACES.glob(f"{stem}*"))


def test_without_root_an_error_is_reported() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="need root"):
            Hosts(1).__enter__()
    finally:
        os.seteuid(0)


def test_rates_are_parsed_in_the_notation_of_tc() -> None:
    assert [netns.parse_rate(rate) for rate in ("1gbit", "100mbit", "2.5gbit", "64kbit")] == [1e9, 1e8, 2.5e9, 64e3]
    for rate in ("fast", "1gb", "0mbit", "-1gbit", "1gbit; reboot"):
        with pytest.raises(UserError, match="is not a rate"):
            netns.parse_rate(rate)


def test_a_count_too_large_for_the_network_is_refused() -> None:
    for count in (0, 251):
        with pytest.raises(UserError, match="give 1 to 250"):
            Hosts(count)

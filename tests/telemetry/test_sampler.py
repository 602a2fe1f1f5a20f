"""The sampler: its rate and rows, in simulated time; errors of sources do not affect the training."""

import json
import platform
import socket
import stat
import subprocess
import sys
import threading

import pytest

from distdl.core.errors import UserError
from distdl.telemetry import host
from distdl.telemetry import sampler as module
from distdl.telemetry.host import HostCounters
from distdl.telemetry.sampler import Sampler, claim
from simulated_time import SimulatedTime, simulate_time

A, B = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89400000-0000-0000-0000-000000000001"
TWO = f"count 2\n0.uuid {A}\n0.name Toy\n0.power 250000\n1.uuid {B}\n1.name Toy\n1.power 60000\n"


@pytest.fixture
def clock(monkeypatch) -> SimulatedTime:
    return simulate_time(monkeypatch, module, host)


class StopAt:
    """Replaces the sampler's event: it is set at a time of the simulated clock, and a wait advances this clock."""

    def __init__(self, clock: SimulatedTime, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def is_set(self) -> bool:
        return self._clock.now >= self._seconds

    def wait(self, timeout: float) -> None:
        self._clock.now = min(self._clock.now + timeout, max(self._seconds, self._clock.now))


def sampled(clock: SimulatedTime, sources, seconds: float, hz: float, **options) -> list[dict]:
    """Rows of a sampler that is stopped after `seconds`, without its thread."""
    rows: list[dict] = []
    sampler = Sampler(sources, rows.append, lambda: (7, 2), hz=hz, **options)
    sampler._stop = StopAt(clock, seconds)
    sampler._run()
    return rows


class Counting:
    """A source that counts its samples."""

    kind, shortest_s, taken = "counting", 0.0, 0

    def sample(self):
        self.taken += 1
        return {"taken": self.taken}

    def close(self):
        self.taken = -1


class Broken:
    kind, shortest_s = "broken", 0.0
    closed = 0

    def sample(self):
        raise RuntimeError("no such thing")

    def close(self):
        self.closed += 1


def test_rows_of_the_host(clock):
    rows = sampled(clock, [HostCounters()], 0.3, hz=10, labels={"rank": 3})
    assert [row["time_s"] for row in rows] == [0, 0.3]
    for row in rows:
        assert (row["kind"], row["step"], row["epoch"], row["rank"]) == ("host", 7, 2, 3)
        assert 0 <= row["cpu_percent"] <= 100
        assert 0 < row["memory_used_bytes"] < row["memory_total_bytes"]
        assert 0 < row["process_memory_bytes"] < row["memory_total_bytes"]
    json.dumps(rows)


def test_host_rates_are_bytes_per_second(clock):
    """Other programs may send more in the meantime."""
    counters = HostCounters()
    server = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(server.getsockname())
    receiver, _ = server.accept()
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: receiver.recv(1 << 20), b"")])
    reader.start()
    sender.sendall(bytes(20_000_000))
    sender.close()
    reader.join()
    clock.advance(4)
    row = counters.sample()
    receiver.close(), server.close()
    assert row["network_sent_bytes_per_s"] >= 20_000_000 / 4
    assert row["network_received_bytes_per_s"] >= 20_000_000 / 4


def test_host_rates_are_those_since_the_previous_sample(clock, monkeypatch):
    totals = iter([{"disk_read": 100}, {"disk_read": 700}, {"disk_read": 700}, {"disk_read": 600}, {"disk_read": 610}])
    monkeypatch.setattr(host, "_totals", lambda: next(totals))
    counters, rates = HostCounters(), []
    for seconds in (2, 3, 4, 0.5):
        clock.advance(seconds)
        rates.append(counters.sample()["disk_read_bytes_per_s"])
    assert rates == [300, 0, 0, 20]


def test_the_first_row_is_at_the_start_and_the_last_at_the_stop():
    source, rows, first = Counting(), [], threading.Event()

    def write(row: dict) -> None:
        rows.append(row)
        first.set()

    sampler = Sampler([source], write, lambda: (7, 2), hz=0.1)
    sampler.start()
    assert first.wait(60)
    sampler.stop(60)
    assert [row["taken"] for row in rows] == [1, 2]
    assert source.taken == -1


def test_the_sampler_keeps_ten_samples_per_second(clock):
    """The host is sampled once per second, and at the stop."""
    rows = sampled(clock, [Counting(), HostCounters()], 2.05, hz=10)
    times = {kind: [row["time_s"] for row in rows if row["kind"] == kind] for kind in ("counting", "host")}
    assert times["counting"] == pytest.approx([*(number / 10 for number in range(21)), 2.05])
    assert times["host"] == pytest.approx([0, 1, 2, 2.05])


def test_missed_samples_are_skipped(clock):
    """The second sample takes 0.35 s: the next one follows at once, and then the rate is the same as before."""

    class Slow(Counting):
        def sample(self):
            row = super().sample()
            clock.advance(0.35 if self.taken == 2 else 0)
            return row

    rows = sampled(clock, [Slow()], 0.7, hz=10)
    assert [row["time_s"] for row in rows] == pytest.approx([0, 0.1, 0.45, 0.55, 0.65, 0.7])


@pytest.mark.parametrize("hz", [0, -1, 11, float("nan")])
def test_rates_out_of_range_are_refused(hz):
    with pytest.raises(ValueError, match="at most 10 per second"):
        Sampler([], print, lambda: (0, 0), hz=hz)


def test_the_time_of_sampling_is_summed(clock):
    class Slow(Counting):
        def sample(self):
            clock.advance(0.03)
            return super().sample()

    sampler = Sampler([Slow()], lambda row: None, lambda: (7, 2), hz=10)
    sampler._stop = StopAt(clock, 0.25)
    sampler._run()
    assert sampler.seconds == pytest.approx(4 * 0.03)


def test_a_full_disk_ends_only_the_telemetry(clock, capsys):
    source, rows = Counting(), []

    def write(row: dict) -> None:
        if rows:
            raise OSError(28, "No space left on device")
        rows.append(row)

    sampler = Sampler([source], write, lambda: (7, 2), hz=10)
    sampler._stop = StopAt(clock, 1.0)
    sampler._run()
    assert capsys.readouterr().err == "warning: telemetry has ended: No space left on device\n"
    assert source.taken == -1 and len(rows) == 1


def test_a_failed_source_is_dropped_and_the_others_continue(clock):
    broken = Broken()
    rows = sampled(clock, [broken, Counting()], 0.25, hz=10)
    errors = [row for row in rows if "error" in row]
    assert [row["error"] for row in errors] == ["RuntimeError: no such thing"]
    assert broken.closed == 1
    assert sum(row["kind"] == "counting" for row in rows) == 4


def test_a_source_that_hangs_does_not_block_the_training():
    class Hanging(Broken):
        def sample(self):
            release.wait()
            return {}

    release = threading.Event()
    sampler = Sampler([Hanging()], lambda row: None, lambda: (0, 0), hz=1)
    sampler.start()
    sampler.stop(timeout_s=0.2)
    assert sampler._thread.is_alive()
    release.set()
    sampler._thread.join(60)


def test_a_device_that_is_lost_during_sampling_is_reported_once(ask):
    code = f"""
from distdl.telemetry.nvml import NvmlDevice
from distdl.telemetry.sampler import Sampler
answer = []
class Stop:
    rounds = 0
    def is_set(self):
        return self.rounds == 5
    def wait(self, seconds):
        self.rounds += 1
        if self.rounds == 3:
            put({"0.fails.all 15" + chr(10) + TWO!r})
sampler = Sampler([NvmlDevice({A!r}), NvmlDevice({B!r})], answer.append, lambda: (1, 0), hz=10)
sampler._stop = Stop()
sampler._run()
"""
    rows = ask(code, TWO)
    lost = [index for index, row in enumerate(rows) if "error" in row]
    assert [(rows[index]["device"], rows[index]["error"]) for index in lost] == [(A, "lost: GPU is lost")]
    earlier, later = rows[: lost[0]], rows[lost[0] + 1 :]
    assert [row["device"] for row in earlier] == [A, B] * 3
    assert [row["device"] for row in later] == [B] * 3
    assert all(row["power_w"] == (250 if row["device"] == A else 60) for row in rows if "error" not in row)


def test_one_process_of_a_host_samples_a_device(tmp_path):
    code = f"""
import sys
from pathlib import Path
from distdl.telemetry.sampler import claim
held = claim(Path({str(tmp_path)!r}), "GPU-1")
print(bool(held), flush=True)
sys.stdin.read()
"""
    ranks = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert sorted(rank.stdout.readline().strip() for rank in ranks) == ["False", "False", "True"]
    (tmp_path / "other").mkdir()
    other_device, other_run = claim(tmp_path, "GPU-2"), claim(tmp_path / "other", "GPU-1")
    assert other_device and other_run
    for rank in ranks:
        rank.kill()  # a killed rank releases its claim
        rank.communicate()
    again = claim(tmp_path, "GPU-1")
    assert again
    for lock in (other_device, other_run, again):
        lock.release()
    assert [path.name for path in tmp_path.rglob("*")] == ["other"]


def test_hosts_that_share_a_run_folder_have_claims_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "../node/1")
    first = claim(tmp_path, "host")
    monkeypatch.setattr(platform, "node", lambda: "../node/2")
    second = claim(tmp_path, "host")
    assert first and second and len(list(tmp_path.iterdir())) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))
    for lock in (first, second):
        lock.release()


def test_a_link_with_the_name_of_a_claim_is_refused(tmp_path):
    (tmp_path / f"telemetry-{platform.node()}-host.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="is a link"):
        claim(tmp_path, "host")
    assert not (tmp_path / "victim").exists()

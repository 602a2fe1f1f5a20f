"""The sampler thread: its rate and rows; errors of sources do not affect the training."""

import json
import platform
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from distdl.core.errors import UserError
from distdl.telemetry.host import HostCounters
from distdl.telemetry.sampler import Sampler, claim

A, B = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89400000-0000-0000-0000-000000000001"
TWO = f"count 2\n0.uuid {A}\n0.name Toy\n0.power 250000\n1.uuid {B}\n1.name Toy\n1.power 60000\n"


def sampled(sources, seconds: float, hz: float, **options) -> list[dict]:
    rows: list[dict] = []
    sampler = Sampler(sources, rows.append, lambda: (7, 2), hz=hz, **options)
    sampler.start()
    time.sleep(seconds)
    sampler.stop()
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


def test_rows_of_the_host():
    rows = sampled([HostCounters()], 0.3, hz=10, labels={"rank": 3})
    assert len(rows) == 2
    for row in rows:
        assert (row["kind"], row["step"], row["epoch"], row["rank"]) == ("host", 7, 2, 3)
        assert abs(row["time_s"] - time.time()) < 30
        assert 0 <= row["cpu_percent"] <= 100
        assert 0 < row["memory_used_bytes"] < row["memory_total_bytes"]
        assert 0 < row["process_memory_bytes"] < row["memory_total_bytes"]
    json.dumps(rows)


def test_host_rates_are_bytes_per_second():
    began = time.monotonic()
    host = HostCounters()
    server = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(server.getsockname())
    receiver, _ = server.accept()
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: receiver.recv(1 << 20), b"")])
    reader.start()
    sender.sendall(bytes(20_000_000))
    sender.close()
    reader.join()
    row = host.sample()
    elapsed_s = time.monotonic() - began
    receiver.close(), server.close()
    assert row["network_sent_bytes_per_s"] * elapsed_s >= 0.9 * 20_000_000
    assert row["network_received_bytes_per_s"] * elapsed_s >= 0.9 * 20_000_000


def test_the_first_row_is_at_the_start_and_the_last_at_the_stop():
    source = Counting()
    rows = sampled([source], 0.02, hz=0.1)
    assert [row["taken"] for row in rows] == [1, 2]
    assert source.taken == -1


@pytest.mark.serial
def test_the_sampler_keeps_ten_samples_per_second():
    rows = sampled([Counting(), HostCounters()], 2.05, hz=10)
    assert 20 <= sum(row["kind"] == "counting" for row in rows) <= 23
    assert sum(row["kind"] == "host" for row in rows) in (3, 4)  # every second, and the last


@pytest.mark.parametrize("hz", [0, -1, 11, float("nan")])
def test_rates_out_of_range_are_refused(hz):
    with pytest.raises(ValueError, match="at most 10 per second"):
        Sampler([], print, lambda: (0, 0), hz=hz)


def test_a_failed_source_is_dropped_and_the_others_continue():
    broken = Broken()
    rows = sampled([broken, Counting()], 0.25, hz=10)
    errors = [row for row in rows if "error" in row]
    assert [row["error"] for row in errors] == ["RuntimeError: no such thing"]
    assert broken.closed == 1
    assert sum(row["kind"] == "counting" for row in rows) >= 3


def test_a_source_that_hangs_does_not_block_the_training():
    class Hanging(Broken):
        def sample(self):
            release.wait()
            return {}

    release = threading.Event()
    sampler = Sampler([Hanging()], lambda row: None, lambda: (0, 0), hz=1)
    sampler.start()
    began = time.monotonic()
    sampler.stop(timeout_s=0.2)
    assert time.monotonic() - began < 2
    release.set()


def test_a_device_that_is_lost_during_sampling_is_reported_once(ask):
    code = f"""
import time
from distdl.telemetry.nvml import NvmlDevice
from distdl.telemetry.sampler import Sampler
answer = []
sampler = Sampler([NvmlDevice({A!r}), NvmlDevice({B!r})], answer.append, lambda: (1, 0), hz=10)
sampler.start()
time.sleep(0.25)
put({"0.fails.all 15" + chr(10) + TWO!r})
time.sleep(0.35)
sampler.stop()
"""
    rows = ask(code, TWO)
    lost = [index for index, row in enumerate(rows) if "error" in row]
    assert [(rows[index]["device"], rows[index]["error"]) for index in lost] == [(A, "lost: GPU is lost")]
    earlier, later = rows[: lost[0]], rows[lost[0] + 1 :]
    assert {row["device"] for row in earlier} == {A, B}
    assert [row["device"] for row in later] == [B] * len(later)
    assert len(later) >= 3
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

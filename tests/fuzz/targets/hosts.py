"""Host lists, Slurm's shorthand for hosts and tasks, and hostfiles."""

import collections
import os
import re
import shutil
import subprocess
from pathlib import Path

from distdl.core import hosts
from distdl.core.errors import UserError
from distdl.runtime.mpi_slurm import from_launcher
from fuzz.run import Target
from repository import ROOT
from slurm_step import STEP

SCRIPT = ROOT / "launch" / "horovodrun.sh"


def seeds(_folder: Path) -> dict[str, bytes]:
    """Host lists in the notations of users, Slurm and hostfiles."""
    return {
        "list": b"node01, node02,login.cluster,10.0.0.1,fe80::1",
        "brackets": b"node[01-04,07]-ib,r[1-2]n[3-4],n[8-11]",
        "nodelist": b"gpu[003-017,111],cpu1",
        "tasks": b"4(x2),3,1(x12)",
        "hostfile": b"# three\nnode01 slots=4\nnode02\tslots=2 # with tabs\n\nnode03\n",
    }


def check(folder: Path, name: str, content: bytes) -> None:
    """Names are valid, unique, and equal to those of Slurm's client; a hostfile's slots are counted."""
    if name == "hostfile":
        _check_hostfile(folder, content)
        return
    text = os.fsdecode(content).replace("\0", "0")
    if name == "tasks":
        step = {**STEP, "SLURM_STEP_TASKS_PER_NODE": text}
        variables = from_launcher(step)
        assert variables["LOCAL_WORLD_SIZE"].isdecimal() and variables["MASTER_ADDR"] == "gpu03", variables
        return
    parsed = hosts.parse(text)
    assert len({host.casefold() for host in parsed}) == len(parsed), "a host is listed twice"
    for host in parsed:
        assert host.isascii() and (host[0].isalnum() or ":" in host) and not set(host) & set(" []-@/") - {"-"}, host
    place_found = from_launcher({**STEP, "SLURM_STEP_NODELIST": text}) if parsed else {}
    assert place_found.get("MASTER_ADDR", "") == (parsed[0] if parsed else ""), "the first host differs"
    expected = _slurm(folder, text)
    assert expected is None or collections.Counter(parsed) == collections.Counter(expected), (parsed, expected)


def _slurm(folder: Path, text: str) -> list[str] | None:
    """Expansion by Slurm's client; None without it, or where it accepts less than distdl (a suffix, for example)."""
    if not shutil.which("scontrol") or not text.strip(" ,") or re.search(r"\d{16}", text):
        return None  # Slurm 22.05 wraps numbers at 64 bits, in plain names too
    configuration = folder / "slurm.conf"
    configuration.write_text("ClusterName=x\nSlurmctldHost=h0\nNodeName=h0\n", encoding="utf-8")
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    done = subprocess.run(
        ["scontrol", "show", "hostnames", text], env=environment, capture_output=True, text=True, check=False
    )
    return None if done.stderr or done.returncode else done.stdout.split()


def _check_hostfile(folder: Path, content: bytes) -> None:
    file, program = folder / "hostfile", folder / "horovodrun"
    file.write_bytes(content)
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", encoding="utf-8")
    program.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOSTFILE": str(file), "LC_ALL": "C"}
    done = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, check=False)
    if done.returncode:
        raise UserError(done.stderr.decode(errors="replace").strip())
    argv = done.stdout.decode().splitlines()
    ranks, slots = argv[argv.index("-np") + 1], argv[argv.index("-H") + 1]
    expected = []
    for line in content.decode("latin-1").split("\n"):
        fields = line.removesuffix("\r").split("#")[0].split()
        if fields:
            expected.append(f"{fields[0]}:{fields[1].removeprefix('slots=') if fields[1:] else 1}")
    assert slots == ",".join(expected), (slots, expected)
    assert int(ranks) == sum(int(each.split(":")[1]) for each in expected), (ranks, expected)


TARGET = Target(seeds=seeds, check=check, share=5)

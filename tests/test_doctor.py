"""What the doctor says: true of this machine, readable, and with the command that brings what is missing."""

import json
import subprocess
import sys

import torch


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "distdl.cli", "doctor", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_json_names_everything_and_a_remedy_for_what_can_be_brought() -> None:
    found = json.loads(run("--json"))
    wanted = {"host", "torch", "cuda", "nccl", "horovod", "deepspeed", "dali", "nvml", "slurm", "data digits"}
    assert wanted <= set(found)
    assert found["torch"]["found"]
    assert torch.__version__ in found["torch"]["detail"]
    assert found["cuda"]["found"] == torch.cuda.is_available()
    assert found["data digits"]["found"]
    for name in ("horovod", "deepspeed", "dali", "data mnist"):
        assert found[name]["found"] != bool(found[name]["remedy"])


def test_the_table_keeps_the_brackets_of_extras_and_80_columns() -> None:
    shown = run()
    assert max(map(len, shown.splitlines())) <= 80
    for name, finding in json.loads(run("--json")).items():
        assert name in shown
        if "distdl[" in finding["remedy"]:
            assert finding["remedy"] in shown

"""What the doctor says: true of this machine, readable, and with the command that brings what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distdl.cli import doctor


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


ERRORS = [OSError(5, "Input/output error"), KeyError("x"), SystemExit(3), RecursionError()]
ERRORS += [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ImportError("no\nsymbol")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", doctor.CHECKS)
def test_a_check_that_raises_is_a_line_and_hides_no_other(
    name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> doctor.Finding:
        raise error

    checks = {each: lambda each=each: doctor.Finding(name=each, found=True, detail="") for each in doctor.CHECKS}
    monkeypatch.setattr(doctor, "CHECKS", {**checks, name: broken})
    findings = {finding.name: finding for finding in doctor.examine()}
    assert list(findings) == list(doctor.CHECKS)
    assert findings[name].detail.startswith("cannot be checked: ")
    assert "\n" not in findings[name].detail
    assert [each for each, finding in findings.items() if not finding.found] == [name]


BROKEN = {
    "psutil": "raise RuntimeError('no /proc\\n\x1b[31m')",
    "torch": "import ctypes; ctypes.CDLL('libgone.so.7')",
    "pynvml": "raise SystemExit('no driver')",
    "horovod": "1 / 0",
    "nvidia": "raise KeyError('dali')",
}


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_machine_on_which_nothing_works_has_a_line_for_each(tmp_path: Path, words: tuple[str, ...]) -> None:
    for name, code in BROKEN.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code, encoding="utf-8")
    (tmp_path / "sbatch").write_bytes(b"\x7fELF\xff")
    (tmp_path / "sbatch").chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PATH": str(tmp_path),
        "DISTDL_DATA": os.fsdecode(b"/\xff" + b"x" * 300),
        "PYTHONIOENCODING": "ascii",
    }
    command = [sys.executable, "-m", "distdl.cli", "doctor", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("cannot be checked: ") >= 6
    assert "\x1b" not in done.stdout
    for name in ("host", "torch", "cuda", "nccl", "horovod", "deepspeed", "dali", "nvml", "slurm", "data"):
        assert name in done.stdout

"""`distdl doctor`: correct for this machine, 80 columns wide, with commands to install missing programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distdl.cli import doctor


def run(*options: str) -> str:
    done = subprocess.run([sys.executable, "-m", "distdl.cli", "doctor", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_json_has_every_check_and_its_install_command() -> None:
    capabilities = json.loads(run("--json"))
    names = {"host", "torch", "cuda", "nccl", "horovod", "deepspeed", "dali", "timm", "nvml", "slurm", "data digits"}
    assert names <= set(capabilities)
    assert capabilities["torch"]["found"]
    assert torch.__version__ in capabilities["torch"]["detail"]
    assert capabilities["cuda"]["found"] == torch.cuda.is_available()
    assert capabilities["data digits"]["found"]
    for name in ("horovod", "deepspeed", "dali", "timm", "data mnist"):
        assert capabilities[name]["found"] != bool(capabilities[name]["remedy"])


def test_the_table_keeps_the_brackets_of_extras_and_80_columns() -> None:
    table = run()
    assert max(map(len, table.splitlines())) <= 80
    for name, capability in json.loads(run("--json")).items():
        assert name in table
        if "distdl[" in capability["remedy"]:
            assert capability["remedy"] in table


ERRORS = [OSError(5, "Input/output error"), KeyError("x"), SystemExit(3), RecursionError()]
ERRORS += [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ImportError("no\nsymbol")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", doctor.CHECKS)
def test_a_failed_check_is_a_line_and_does_not_hide_others(
    name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> doctor.Capability:
        raise error

    checks = {each: lambda each=each: doctor.Capability(name=each, found=True, detail="") for each in doctor.CHECKS}
    monkeypatch.setattr(doctor, "CHECKS", {**checks, name: broken})
    capabilities = {capability.name: capability for capability in doctor.examine()}
    assert list(capabilities) == list(doctor.CHECKS)
    assert capabilities[name].detail.startswith("cannot be checked: ")
    assert "\n" not in capabilities[name].detail
    assert [each for each, capability in capabilities.items() if not capability.found] == [name]


BROKEN = {
    "psutil": "raise RuntimeError('no /proc\\n\x1b[31m')",
    "torch": "import ctypes; ctypes.CDLL('libgone.so.7')",
    "pynvml": "raise SystemExit('no driver')",
    "horovod": "1 / 0",
    "nvidia": "raise KeyError('dali')",
}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_machine_on_which_every_check_fails_has_all_lines(tmp_path: Path, options: tuple[str, ...]) -> None:
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
    command = [sys.executable, "-m", "distdl.cli", "doctor", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("cannot be checked: ") >= 6
    assert "\x1b" not in done.stdout
    for name in ("host", "torch", "cuda", "nccl", "horovod", "deepspeed", "dali", "nvml", "slurm", "data"):
        assert name in done.stdout


def test_packages_are_those_of_the_components() -> None:
    """Each optional package of a component has a row with its version, or the command that installs it."""
    assert {"horovod", "deepspeed", "dali", "timm"} <= set(doctor.PACKAGES) <= set(doctor.CHECKS)
    for name, row in doctor.PACKAGES.items():
        capability = doctor.CHECKS[name]()
        assert isinstance(capability, doctor.Capability)
        assert capability.found != bool(capability.remedy)
        assert not capability.found or capability.detail[0].isdigit()
        assert row.install.startswith("pip install ")


@pytest.mark.parametrize(
    ("available", "version", "driver", "detail", "remedy"),
    [
        (True, "13.0", True, "13.0: GPU 0, GPU 1", ""),
        (False, None, True, "this torch is a CPU build", "pip install -U torch"),
        (False, "13.0", False, "no NVIDIA driver: training runs on the CPU", ""),
        (False, "13.0", True, "a driver is installed, but torch sees no GPU; check it with:", "nvidia-smi"),
    ],
)
def test_the_state_of_cuda(
    monkeypatch: pytest.MonkeyPatch, available: bool, version: str | None, driver: bool, detail: str, remedy: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}" if driver else None)
    expected = doctor.Capability(name="cuda", found=available, detail=detail, **({"remedy": remedy} if remedy else {}))
    assert doctor.CHECKS["cuda"]() == expected


def test_the_state_of_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))
    assert doctor.CHECKS["nccl"]().detail == "2.27.5, inside torch"
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    assert not doctor.CHECKS["nccl"]().found

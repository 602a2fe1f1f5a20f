"""`distdl doctor`: what this machine has, and for each thing that is missing the one command that brings it."""

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata, util

from rich.table import Table
from rich.text import Text

from distdl.core.console import PlainConsole
from distdl.core.errors import reason
from distdl.runtime.cores import cores

WHEEL = "containers/horovod/build.sh .venv/bin/python"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that distdl can use."""

    name: str
    found: bool
    detail: str
    """Version or what it is; or why it was not found."""
    remedy: str = ""
    """The command that brings it, where it is missing and a command can."""


def doctor(*, json: bool = False) -> None:
    """Say what this machine has: devices, libraries, Slurm, data sets; and what brings the rest.

    Args:
        json: print a JSON object by name in place of the table.
    """
    findings = examine()
    if json:
        print(_as_json(findings))
        return
    table = Table(title="distdl doctor", title_justify="left")
    table.add_column("what")
    table.add_column("here")
    table.add_column("detail, or what brings it", overflow="fold")
    for finding in findings:
        mark = Text("yes", "green") if finding.found else Text("no", "yellow")
        table.add_row(finding.name, mark, finding.detail + (f"\n{finding.remedy}" if finding.remedy else ""))
    PlainConsole().print(table)


def _as_json(findings: list[Finding]) -> str:
    return json.dumps({f.name: {k: v for k, v in asdict(f).items() if k != "name"} for f in findings}, indent=2)


def examine() -> list[Finding]:
    """Everything that distdl can use, found or not. A check that fails becomes a finding that says so."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            result = check()
        except (Exception, SystemExit) as error:  # a broken package may raise anything when it is imported
            result = Finding(name=name, found=False, detail=f"cannot be checked: {reason(error)}")
        findings += result if isinstance(result, list) else [result]
    return findings


def _host() -> Finding:
    import psutil

    gib = psutil.virtual_memory().total / 2**30
    return Finding(
        name="host", found=True, detail=f"{cores()} cores, {gib:.0f} GiB, Python {platform.python_version()}"
    )


def _torch() -> Finding:
    import torch

    return Finding(name="torch", found=True, detail=f"{torch.__version__}, torchvision {_version('torchvision')}")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding(name="cuda", found=True, detail=f"{torch.version.cuda}: " + ", ".join(names))
    if torch.version.cuda is None:
        return Finding(name="cuda", found=False, detail="this torch is a CPU build", remedy="pip install -U torch")
    if not shutil.which("nvidia-smi"):
        return Finding(name="cuda", found=False, detail="no NVIDIA driver: training runs on the CPU")
    return Finding(
        name="cuda", found=False, detail="a driver, but torch sees no GPU; what the driver says:", remedy="nvidia-smi"
    )


def _nccl() -> Finding:
    import torch

    if torch.distributed.is_nccl_available():
        version = ".".join(map(str, torch.cuda.nccl.version()))
        return Finding(name="nccl", found=True, detail=f"{version}, inside torch")
    return Finding(name="nccl", found=False, detail="this torch has none: GPUs would talk over gloo")


def _package(name: str, module: str, distribution: str, remedy: str) -> Finding:
    found = _importable(module)
    detail = _version(distribution) if found else "not installed"
    return Finding(name=name, found=found, detail=detail, remedy="" if found else remedy)


def _importable(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name
        return False


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "version unknown"


def _nvml() -> Finding:
    import pynvml

    remedies = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "it comes with NVIDIA's driver",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the driver's kernel module is not loaded: sudo modprobe nvidia",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated while in use: reboot, or reload its modules",
        pynvml.NVML_ERROR_NO_PERMISSION: "this user may not open /dev/nvidia*",
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the driver is older than this nvidia-ml-py: update the driver",
    }
    try:
        pynvml.nvmlInit()
        try:
            driver, count = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        remedy = remedies.get(error.value, "")
        detail = str(error).rstrip(".") + (f": {remedy}" if remedy else "")
        return Finding(name="nvml", found=False, detail=detail)
    return Finding(name="nvml", found=True, detail=f"driver {driver}, {count} devices")


def _slurm() -> Finding:
    sbatch = shutil.which("sbatch")
    if not sbatch:
        return Finding(name="slurm", found=False, detail="no sbatch here: on a cluster it is on the login node")
    version = subprocess.run(
        [sbatch, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
    )
    return Finding(name="slurm", found=True, detail=version.stdout.strip() or sbatch)


def _data() -> list[Finding]:
    from distdl.data.sets.load import available, data_root

    root = data_root(None)
    return [
        Finding(
            name=f"data {name}",
            found=there is not None,
            detail=str(there) if there else f"not under {root}",
            remedy="" if there else hint,
        )
        for name, (there, hint) in available(root).items()
    ]


CHECKS: dict[str, Callable[[], Finding | list[Finding]]] = {
    "host": _host,
    "torch": _torch,
    "cuda": _cuda,
    "nccl": _nccl,
    "horovod": partial(_package, "horovod", "horovod", "horovod", f"pip install $({WHEEL} | tail -n 1)"),
    "deepspeed": partial(_package, "deepspeed", "deepspeed", "deepspeed", "pip install 'distdl[deepspeed]'"),
    "dali": partial(_package, "dali", "nvidia.dali", "nvidia-dali-cuda130", "pip install 'distdl[dali]'"),
    "nvml": _nvml,
    "slurm": _slurm,
    "data": _data,
}
"""By the name of its row; data has a row for each set."""

"""`distdl doctor`: what this machine has, and for each thing that is missing the one command that brings it."""

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata, util

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distdl.cores import cores

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
        mark = "[green]yes[/]" if finding.found else "[yellow]no[/]"
        text = finding.detail + (f"\n{finding.remedy}" if finding.remedy else "")
        table.add_row(finding.name, mark, escape(text))  # an extra's brackets are not markup
    Console().print(table)


def _as_json(findings: list[Finding]) -> str:
    return json.dumps({f.name: {k: v for k, v in asdict(f).items() if k != "name"} for f in findings}, indent=2)


def examine() -> list[Finding]:
    """Everything that distdl can use, found or not."""
    checks: list[Callable[[], Finding | list[Finding]]] = [_host, _torch, _cuda, _nccl, _packages, _nvml, _slurm, _data]
    findings: list[Finding] = []
    for check in checks:
        found = check()
        findings += found if isinstance(found, list) else [found]
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


def _packages() -> list[Finding]:
    wanted = {
        "horovod": ("horovod", f"pip install $({WHEEL} | tail -n 1)"),
        "deepspeed": ("deepspeed", "pip install 'distdl[deepspeed]'"),
        "dali": ("nvidia.dali", "pip install 'distdl[dali]'"),
    }
    findings = []
    for name, (module, remedy) in wanted.items():
        found = _importable(module)
        distribution = {"dali": "nvidia-dali-cuda130"}.get(name, name)
        detail = _version(distribution) if found else "not installed"
        findings.append(Finding(name=name, found=found, detail=detail, remedy="" if found else remedy))
    return findings


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

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Finding(name="nvml", found=False, detail=f"{error}: it comes with NVIDIA's driver")
    try:
        driver, count = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount()
        return Finding(name="nvml", found=True, detail=f"driver {driver}, {count} devices")
    finally:
        pynvml.nvmlShutdown()


def _slurm() -> Finding:
    sbatch = shutil.which("sbatch")
    if not sbatch:
        return Finding(name="slurm", found=False, detail="no sbatch here: on a cluster it is on the login node")
    version = subprocess.run([sbatch, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return Finding(name="slurm", found=True, detail=version.stdout.strip() or sbatch)


def _data() -> list[Finding]:
    from distdl.data.datasets import available, data_root

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

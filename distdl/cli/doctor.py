"""`distdl doctor`: devices, libraries, Slurm and data sets of this machine, and how to install what is missing."""

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

from distdl.core.components import COMPONENTS
from distdl.core.console import PlainConsole
from distdl.core.errors import reason
from distdl.core.kinds import Row
from distdl.runtime.cores import cores


@dataclass(frozen=True, kw_only=True)
class Capability:
    """A device, library or data set that distdl can use."""

    name: str
    found: bool  # plain: ok a key of the JSON output
    detail: str
    """Version or description; or the reason why it is missing."""
    remedy: str = ""
    """The command that installs it, if it is missing and a command can."""


def doctor(*, json: bool = False) -> None:
    """Check this machine: devices, libraries, Slurm, data sets; and list how to install what is missing.

    Args:
        json: print a JSON object by name instead of the table.
    """
    capabilities = examine()
    if json:
        print(_as_json(capabilities))
        return
    table = Table(title="distdl doctor", title_justify="left")
    table.add_column("component")
    table.add_column("found")
    table.add_column("detail, or how to install it", overflow="fold")
    for capability in capabilities:
        mark = Text("yes", "green") if capability.found else Text("no", "yellow")
        table.add_row(
            capability.name, mark, capability.detail + (f"\n{capability.remedy}" if capability.remedy else "")
        )
    PlainConsole().print(table)


def _as_json(capabilities: list[Capability]) -> str:
    return json.dumps({f.name: {k: v for k, v in asdict(f).items() if k != "name"} for f in capabilities}, indent=2)


def examine() -> list[Capability]:
    """Everything that distdl can use, available or not. A check that fails is a capability with the error as detail."""
    capabilities: list[Capability] = []
    for name, check in CHECKS.items():
        try:
            result = check()
        except (Exception, SystemExit) as error:  # a broken package may raise anything when it is imported
            result = Capability(name=name, found=False, detail=f"cannot be checked: {reason(error)}")
        capabilities += result if isinstance(result, list) else [result]
    return capabilities


def _host() -> Capability:
    import psutil

    gib = psutil.virtual_memory().total / 2**30
    return Capability(
        name="host", found=True, detail=f"{cores()} cores, {gib:.0f} GiB, Python {platform.python_version()}"
    )


def _torch() -> Capability:
    import torch

    return Capability(name="torch", found=True, detail=f"{torch.__version__}, torchvision {_version('torchvision')}")


def _cuda() -> Capability:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Capability(name="cuda", found=True, detail=f"{torch.version.cuda}: " + ", ".join(names))
    if torch.version.cuda is None:
        return Capability(name="cuda", found=False, detail="this torch is a CPU build", remedy="pip install -U torch")
    if not shutil.which("nvidia-smi"):
        return Capability(name="cuda", found=False, detail="no NVIDIA driver: training runs on the CPU")
    return Capability(
        name="cuda",
        found=False,
        detail="a driver is installed, but torch sees no GPU; check it with:",
        remedy="nvidia-smi",
    )


def _nccl() -> Capability:
    import torch
    from torch.cuda import nccl

    if torch.distributed.is_nccl_available():
        version = ".".join(map(str, nccl.version()))
        return Capability(name="nccl", found=True, detail=f"{version}, inside torch")
    return Capability(
        name="nccl", found=False, detail="this build of torch has no NCCL: GPUs would communicate through gloo"
    )


def _package(name: str, row: Row) -> Capability:
    """The package that a component of the registry requires."""
    if _importable(row.requires):
        return Capability(name=name, found=True, detail=_version(_distribution(row.requires)))
    return Capability(name=name, found=False, detail="not installed", remedy=row.install)


def _distribution(package: str) -> str:
    """The distribution of a package: of the several that share `nvidia`, the one that names `dali`."""
    candidates = metadata.packages_distributions().get(package.partition(".")[0], [])
    return next((name for name in candidates if package.rpartition(".")[2] in name.lower()), package)


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


def _nvml() -> Capability:
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
        remedy = remedies.get(getattr(error, "value", 0), "")
        detail = str(error).rstrip(".") + (f": {remedy}" if remedy else "")
        return Capability(name="nvml", found=False, detail=detail)
    return Capability(name="nvml", found=True, detail=f"driver {driver}, {count} devices")


def _slurm() -> Capability:
    sbatch = shutil.which("sbatch")
    if not sbatch:
        return Capability(name="slurm", found=False, detail="no sbatch: on a cluster it is on the login node")
    version = subprocess.run(
        [sbatch, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
    )
    return Capability(name="slurm", found=True, detail=version.stdout.strip() or sbatch)


def _data() -> list[Capability]:
    from distdl.data.sets.load import available, data_root

    root = data_root(None)
    return [
        Capability(
            name=f"data {name}",
            found=folder is not None,
            detail=str(folder) if folder else f"not under {root}",
            remedy="" if folder else hint,
        )
        for name, (folder, hint) in available(root).items()
    ]


PACKAGES = {
    row.requires.rpartition(".")[2]: row
    for components in COMPONENTS.values()
    for row in components.values()
    if row.requires
}
"""Components that require an optional package, by the last part of its name."""

CHECKS: dict[str, Callable[[], Capability | list[Capability]]] = {
    "host": _host,
    "torch": _torch,
    "cuda": _cuda,
    "nccl": _nccl,
    **{name: partial(_package, name, row) for name, row in PACKAGES.items()},
    "nvml": _nvml,
    "slurm": _slurm,
    "data": _data,
}
"""Checks by the name of their row; data has a row per set."""

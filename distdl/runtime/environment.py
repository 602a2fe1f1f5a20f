"""Machine and software versions of a run."""

import platform
import sys
import time
from importlib import metadata
from typing import Any

from distdl.runtime import cores
from distdl.runtime.launch_env import job_variables


def environment() -> dict[str, Any]:
    """Return machine and software versions, for environment.json."""
    import psutil
    import torch

    packages = ("distdl", "torch", "torchvision", "numpy", "horovod", "deepspeed", "nvidia-dali-cuda130")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "cores": cores.cores(),
        "cores_busy_at_start": round(cores.busy_at_start(), 2),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
        "job": job_variables(),
    }

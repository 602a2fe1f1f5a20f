"""Which device and which cores a rank has."""

import os
from collections.abc import Mapping

import torch

from distdl.config import ComputeConfig
from distdl.errors import UserError
from distdl.memory import keep_freed


def launched(strategy: str, environ: Mapping[str, str] = os.environ) -> tuple[int, int, int, int]:
    """Rank, world size, and the same within the host, as torchrun's variables tell them.

    Raises:
        UserError: if no launcher has set them.
    """
    if "RANK" not in environ:
        start = f"torchrun --nproc_per_node=N -m distdl.train --strategy {strategy} ..."
        raise UserError(f"strategy {strategy} needs a launcher: {start}")
    rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    return rank, size, int(environ.get("LOCAL_RANK", rank)), int(environ.get("LOCAL_WORLD_SIZE", size))


def device_for(config: ComputeConfig, *, local_rank: int, local_size: int) -> torch.device:
    """The device of a host's rank `local_rank` of `local_size`.

    Raises:
        UserError: if CUDA is asked for and the host has fewer GPUs than ranks.
    """
    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    if config.device == "cuda" and gpus < local_size:
        raise UserError(f"compute.device is cuda and this host has {gpus} GPUs for {local_size} ranks")
    if gpus < local_size:
        keep_freed()
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def pin_cores(config: ComputeConfig, device: torch.device, *, local_rank: int, local_size: int) -> int:
    """Give this rank its share of the host's cores, and torch as many threads. Returns the number of threads.

    Two ranks whose threads move over the same cores wait for each other in every layer; pinned, they do not. On a GPU
    nothing is pinned: the kernel's threads there must stay free to move between the loader's processes.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    share = len(cores) // local_size
    threads = config.threads or max(share, 1)
    if device.type == "cpu" and not config.threads and share and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores[local_rank * share : (local_rank + 1) * share])
    torch.set_num_threads(threads)
    return threads

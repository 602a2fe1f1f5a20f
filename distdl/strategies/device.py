"""Which device and which cores a rank has."""

import os
from collections.abc import Mapping

import torch

from distdl import cores
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
    nothing is pinned: the kernel's threads there must stay free to move between the loader's processes. Nor where other
    programs keep cores busy, and all ranks would wait for the one that shares its core. The number of threads never
    depends on other programs: torch's sums, and so a training's last bits, depend on it.
    """
    available, ranks = cores.affinity(), cores.sharing(local_size)
    threads = config.threads or cores.cores(local_size)
    busy = cores.observe_end(ranks)
    if pins(device.type, config.threads, available=len(available), ranks=ranks, busy=busy):
        share = len(available) // ranks
        first = local_rank % ranks * share
        os.sched_setaffinity(0, available[first : first + share])
    torch.set_num_threads(threads)
    return threads


def pins(device: str, threads: int, *, available: int, ranks: int, busy: float) -> bool:
    """Whether each of `ranks` ranks is pinned to its part of the `available` cores they share.

    Args:
        threads: as configured; 0 leaves the number, and the cores, to distdl.
        busy: of these cores, in use by other programs.
    """
    return (
        device == "cpu"
        and not threads
        and available >= ranks > 1
        and busy < cores.BUSY
        and hasattr(os, "sched_setaffinity")
    )

"""Device, cores and reduced-precision type of a rank, and the comparison of devices across ranks."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from distdl.core.config import ComputeConfig
from distdl.core.errors import UserError
from distdl.runtime import cores
from distdl.runtime.launch_env import Placement
from distdl.runtime.memory import keep_freed
from distdl.runtime.world import World

REDUCED_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of compute.precision under autocast. fp32 and tf32 compute in float32."""


def device_for(
    config: ComputeConfig, *, local_rank: int, local_size: int, warn: Callable[[str], None] = lambda text: None
) -> torch.device:
    """Choose the device of rank `local_rank` of the `local_size` ranks of a host.

    A rank that sees exactly one GPU uses it, because schedulers bind GPUs to ranks (`srun --gpus-per-task=1`).
    `shared_gpu` checks whether two ranks use the same one.

    Args:
        warn: receives a message if `auto` selects the CPU on a host that has GPUs.
    Raises:
        UserError: if compute.device is cuda and the host has fewer GPUs than ranks.
    """
    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    index = gpu_index(gpus, local_rank=local_rank, local_size=local_size)
    if index is None:
        shortage = f"host {socket.gethostname()} has {gpus} GPUs for {local_size} ranks"
        if config.device == "cuda":
            raise UserError(f"compute.device is cuda, but {shortage}: start at most one rank per GPU")
        if gpus:
            warn(f"training on the CPU, because {shortage}: start at most one rank per GPU to use them")
        keep_freed()
        return torch.device("cpu")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def make_world(config: ComputeConfig, placement: Placement, warn: Callable[[str], None] = lambda text: None) -> World:
    """Return the world of a process with this placement, with its device (see `device_for`)."""
    device = device_for(config, local_rank=placement.local_rank, local_size=placement.local_size, warn=warn)
    return World(**vars(placement), device=device)


def backend(device: torch.device) -> str:
    """Return the backends of torch's process group for ranks on this type of device."""
    # Both on a GPU: tensors on the CPU (counts, flags) must not wait for the GPU.
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def gpu_index(gpus: int, *, local_rank: int, local_size: int) -> int | None:
    """Return the index of a local rank's GPU if it sees `gpus` of them; None if there are too few."""
    if gpus == 1:
        return 0
    return local_rank if gpus >= local_size else None


@dataclass(frozen=True, kw_only=True)
class RankDevice:
    """Host and device of one rank."""

    host: str
    device: str
    """cpu or cuda."""
    gpu: str = ""
    """UUID of the GPU, or of the MIG slice; empty on a CPU."""


def rank_device(device: torch.device, environ: Mapping[str, str] = os.environ) -> RankDevice:
    """Return host and device of this process."""
    gpu = ""
    if device.type == "cuda":
        # The properties of a MIG slice may have the UUID of the GPU, which other slices share.
        visible = environ.get("CUDA_VISIBLE_DEVICES", "")
        gpu = visible if visible.startswith("MIG-") else str(torch.cuda.get_device_properties(device).uuid)
    return RankDevice(host=socket.gethostname(), device=device.type, gpu=gpu)


def mixed_devices(devices: Sequence[RankDevice]) -> str | None:
    """Return an error message if some ranks train on a CPU and others on a GPU. `devices`: by rank."""
    hosts = {kind: sorted({entry.host for entry in devices if entry.device == kind}) for kind in ("cuda", "cpu")}
    if not all(hosts.values()):
        return None
    return (
        f"ranks on {_listed(hosts['cuda'])} have a GPU and ranks on {_listed(hosts['cpu'])} do not: check the driver "
        "and the visible GPUs there, or train on the CPU with --compute.device cpu"
    )


def shared_gpu(devices: Sequence[RankDevice]) -> str | None:
    """Return an error message if two ranks use the same GPU. `devices`: by rank."""
    first_on: dict[tuple[str, str], int] = {}
    for rank, entry in enumerate(devices):
        other = first_on.setdefault((entry.host, entry.gpu), rank)
        if entry.gpu and other != rank:
            both = f"ranks {other} and {rank} on host {entry.host} have the same GPU ({entry.gpu})"
            return f"{both}: start one rank per GPU, or use --compute.device cpu"
    return None


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"host{'s' if len(names) > 1 else ''} {', '.join(names[:most])}{more}"


def pin_cores(config: ComputeConfig, world: World) -> int:
    """Pin this rank to its share of the host's cores, and set torch's number of threads. Returns that number.

    Ranks whose threads move over the same cores wait for each other in every layer; pinned ranks do not. Ranks with a
    GPU are not pinned, because their threads share the cores with the loader's processes. Ranks are not pinned either
    if other programs keep cores busy: all ranks would wait for the one that shares its core. The number of threads does
    not depend on other programs, because the rounding of torch's sums depends on it.
    """
    available, ranks = cores.affinity(), cores.sharing(world.local_size)
    threads = config.threads or cores.cores(world.local_size)
    busy = cores.observe_end(ranks)
    if pins(world.device.type, config.threads, available=len(available), ranks=ranks, busy=busy):
        share = len(available) // ranks
        first = world.local_rank % ranks * share
        os.sched_setaffinity(0, available[first : first + share])
    torch.set_num_threads(threads)
    return threads


def pins(device: str, threads: int, *, available: int, ranks: int, busy: float) -> bool:
    """Whether each of `ranks` ranks is pinned to its part of the `available` cores they share.

    Args:
        threads: compute.threads; with 0 distdl chooses the number of threads and the cores.
        busy: number of these cores in use by other programs.
    """
    return (
        device == "cpu"
        and not threads
        and available >= ranks > 1
        and busy < cores.BUSY
        and hasattr(os, "sched_setaffinity")
    )

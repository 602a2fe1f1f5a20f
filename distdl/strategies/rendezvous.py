"""Rendezvous of the ranks' process group that survives restarts by torchrun."""

import time
import uuid
from datetime import timedelta
from hashlib import sha256

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from distdl.runtime.launch_env import torchrun_job
from distdl.runtime.torch_private import PrefixStore, Store

POLL_S = 0.01


def init_process_group(backend: str, timeout: timedelta) -> None:
    """Call torch's `init_process_group` so that, after a restart by torchrun, no rank connects to a dead one.

    torchrun keeps one store across restarts (torch 2.15), and gloo publishes the ranks' addresses there: a rank that
    starts before another one would read the address of that rank's predecessor, and both would wait forever.
    """
    if not torchrun_job().max_restarts:
        dist.init_process_group(backend, timeout=timeout)
        return
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    new_store = PrefixStore(_agree_on_prefix(store, rank, size, timeout), store)
    dist.init_process_group(backend, store=new_store, rank=rank, world_size=size, timeout=timeout)


def _agree_on_prefix(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """Return a prefix for the keys of the store, on which only the currently running ranks agree.

    Each rank publishes a random token. Rank 0 publishes the tokens that it has read, until every rank has confirmed
    that its token is among them; the token of a dead rank is never confirmed. The number of restarts cannot be the
    prefix, because torchrun counts restarts separately on each host.
    """
    token, deadline = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    store.set(f"distdl/token/{rank}", token)
    while time.monotonic() < deadline:
        if rank == 0:
            tokens = [store.get(f"distdl/token/{each}").decode() for each in range(size)]
            store.set("distdl/tokens", " ".join(tokens))
        else:
            tokens = store.get("distdl/tokens").decode().split()
        if token in tokens:
            generation = sha256(" ".join(tokens).encode()).hexdigest()
            store.set(f"distdl/{generation}/{rank}", "confirmed")
            if store.check([f"distdl/{generation}/{each}" for each in range(size)]):
                return generation
        time.sleep(POLL_S)
    raise TimeoutError(f"rank {rank} of {size} has waited {timeout.total_seconds():.0f} s for the others")

"""Where the ranks of a job that torch launched find each other, also when it was launched again."""

import os
import time
import uuid
from datetime import timedelta
from hashlib import sha256

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

LOOK_EVERY_S = 0.01


def init_process_group(backend: str, timeout: timedelta) -> None:
    """torch's, which after a restart by torchrun does not take the dead ranks' addresses for the living ones'.

    torchrun keeps one store through all its restarts (torch 2.15), and gloo reads from it where the others listen: a
    rank that is quicker than another finds what that one's predecessor wrote, and both wait for ever.
    """
    if not int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        dist.init_process_group(backend, timeout=timeout)
        return
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    fresh = dist.PrefixStore(_agree(store, rank, size, timeout), store)
    dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=timeout)


def _agree(store: dist.Store, rank: int, size: int, timeout: timedelta) -> str:
    """A name that only the ranks which are alive now have agreed to.

    Each gives itself a name. Rank 0 tells the names that it has seen until every rank has said that its own is among
    them: a name of a rank that is dead finds nobody to say so. How often they were restarted cannot serve, for each
    host's torchrun counts that by itself.
    """
    mine, until = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    store.set(f"distdl/name/{rank}", mine)
    while time.monotonic() < until:
        if rank == 0:
            names = [store.get(f"distdl/name/{each}").decode() for each in range(size)]
            store.set("distdl/names", " ".join(names))
        else:
            names = store.get("distdl/names").decode().split()
        if mine in names:
            round_ = sha256(" ".join(names).encode()).hexdigest()
            store.set(f"distdl/{round_}/{rank}", "here")
            if store.check([f"distdl/{round_}/{each}" for each in range(size)]):
                return round_
        time.sleep(LOOK_EVERY_S)
    raise TimeoutError(f"rank {rank} of {size} has waited {timeout.total_seconds():.0f} s for the others")

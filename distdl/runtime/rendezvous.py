"""Rendezvous of a job's ranks: the store, and the process group."""

import secrets
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from distdl.core.errors import Failure
from distdl.runtime.addresses import LOOPBACK, is_open, listening_addresses
from distdl.runtime.channel import KEY_BYTES, derive
from distdl.runtime.launch_env import JobStore, Placement, interface, job_store, master_port, placement, torchrun_job
from distdl.runtime.store import AuthenticatedStore
from distdl.runtime.store_server import StoreServer
from distdl.runtime.torch_private import PrefixStore, Store

POLL_S = 0.01
CONNECT = timedelta(minutes=30)
"""Maximum time to find the store: torch's default for a process group."""
OPEN_STORE = (
    "port {port} of this job is open to everybody who can reach this host, without a password: they can change the "
    "training, or run programs as this user; distdl launch starts ranks that only accept each other"
)


def init_process_group(
    backend: str, timeout: timedelta, warn: Callable[[str], object] = lambda message: None
) -> AuthenticatedStore | None:
    """Call torch's `init_process_group` with the authenticated store of the job, if its launcher has given a key.

    Without a key it is torch's store, whose address the launcher has set: torchrun's, or MASTER_ADDR and MASTER_PORT.

    Args:
        warn: receives a warning on rank 0 if torch's store is open to other hosts or users.
    Returns:
        The authenticated store, which the caller must keep as long as the process group exists.
    Raises:
        Failure: if a rank does not have the key.
    """
    job, ranks = job_store(), placement()
    if job is None or ranks is None:
        _init_without_key(backend, timeout)
        if ranks and ranks.rank == 0 and ranks.size > 1 and is_open(port := master_port()):
            warn(OPEN_STORE.format(port=port))
        return None
    store = connect(job, ranks, min(timeout, CONNECT))
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=timeout)
    _check_ranks(store, job.key, ranks)
    return store


def connect(job: JobStore, ranks: Placement, timeout: timedelta) -> AuthenticatedStore:
    """Return the store of a job, which rank 0 serves if the launcher does not."""
    if job.is_served:
        return AuthenticatedStore(job.key, job.host, job.ports, timeout)
    alone = ranks.size == ranks.local_size
    server = None
    if ranks.rank == 0:
        server = StoreServer(job.key, listening_addresses(job.host, interface(), alone=alone), job.ports).start()
    return AuthenticatedStore(job.key, LOOPBACK if alone else job.host, job.ports, timeout, server)


def _check_ranks(store: Store, key: bytes, ranks: Placement) -> None:
    """Check that the other end of each connection of the process group has the key: gloo checks nothing.

    Raises:
        Failure: naming the ranks that do not have it.
    """
    if ranks.rank == 0:
        store.set("distdl/number", secrets.token_hex(KEY_BYTES))
    number = store.get("distdl/number")
    expected = [_as_tensor(derive(key, str(rank), number)) for rank in range(ranks.size)]
    proofs = [torch.zeros_like(proof) for proof in expected]
    dist.all_gather(proofs, expected[ranks.rank])
    strangers = [str(rank) for rank in range(ranks.size) if not torch.equal(proofs[rank], expected[rank])]
    if strangers:
        raise Failure(f"another program has connected to this job instead of rank {', '.join(strangers)}")


def _as_tensor(data: bytes) -> torch.Tensor:
    return torch.tensor(list(data), dtype=torch.uint8)


def _init_without_key(backend: str, timeout: timedelta) -> None:
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

"""`distdl probe network`: bandwidth and latency between ranks."""

import dataclasses
import os
from typing import Annotated, Literal

import tyro

from distdl.cli.arguments import OtherNames
from distdl.cli.launch import HOSTS, RANKS, new_job, report_signal, start
from distdl.core.config import Count, FilePath


def probe_network(
    *,
    with_: Annotated[Literal["direct", "mpirun", "srun", "netns"], tyro.conf.arg(name="with")] = "direct",
    hosts: Annotated[str, HOSTS] = "",
    nproc: Annotated[Count, RANKS, OtherNames.of("gpus", "gpus-per-node", "num-gpus")] = 0,
    interface: str = "",
    rate: str = "1gbit",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: FilePath | None = None,
) -> int:
    """Measure the network between ranks: bandwidth and latency of each pair, all-reduce time by message size.

    As a rank of torchrun, mpirun or srun it takes part; started alone, the command starts the ranks.

    Args:
        with_: how to start the ranks.
        hosts: host names as in node01,node02 or node[01-04,07]; for netns, their number; default: this machine.
        nproc: ranks on each host; 0: 1 on several hosts, 2 on this machine.
        interface: network interface for communication: eth0, ib0, ...
        rate: netns: rate of each host's link in each direction.
        device: memory of the messages; auto: GPUs (NCCL) if each rank has one.
        json: also write the measurements to this file.
    """
    from distdl.runtime.launch_env import placement
    from distdl.runtime.mpi_slurm import join

    join(os.environ)
    if placement() is not None:
        from distdl.profiling.network_worker import probe

        return probe(device, json)
    argv = ("probe", "network", "--device", device, *(("--json", str(json.absolute())) if json else ()))
    job = new_job(argv, with_, hosts, nproc or (1 if hosts else 2), interface=interface, rate=rate, port=0)
    return report_signal(start(with_, dataclasses.replace(job, module="distdl.cli"), dry_run=False))

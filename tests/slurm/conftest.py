"""One Slurm cluster for all tests of a session."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian import needs, needs_namespaces
from distdl.launchers.netns import Hosts
from slurm_cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start the cluster, once for all tests of a session."""
    programs = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
    for program, package in programs.items():
        needs(package, program=program, root=True)
    needs_namespaces()
    # A short path, because a socket's path has at most 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="distdl-slurm-"))
    try:
        with Hosts(2) as hosts:
            started = Cluster(folder, hosts)
            started.start()
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""One cluster for all tests of a session."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Cluster

from distdl.launchers.netns import Hosts


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster, the same for all tests of a session."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    missing = [name for name in programs if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing or os.geteuid() != 0:
        pytest.skip("needs root and Slurm: apt-get install slurmctld slurmd slurm-client munge")
    # Its own short path: a socket's has at most 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="distdl-slurm-"))
    try:
        with Hosts(2) as hosts:
            made = Cluster(folder, hosts)
            made.start()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)

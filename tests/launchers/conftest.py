"""What several hosts on one machine need, and where they are not to be had."""

import os
import shutil

import pytest


@pytest.fixture
def root() -> None:
    """Skips where hosts cannot be made."""
    if os.geteuid() != 0 or not shutil.which("tc"):
        pytest.skip("several hosts on one machine need root and iproute2")


@pytest.fixture
def sshd(root: None) -> None:
    """Skips where hosts cannot reach each other by ssh."""
    if not shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("needs sshd: apt-get install openssh-server")

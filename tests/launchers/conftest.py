"""What several hosts on one machine need, and where they are not to be had."""

import pytest

from debian import needs, needs_namespaces


@pytest.fixture
def root() -> None:
    """Skips where hosts cannot be made."""
    needs_namespaces()


@pytest.fixture
def sshd(root: None) -> None:
    """Skips where hosts cannot reach each other by ssh."""
    needs("openssh-server", program="sshd")
    needs("openssh-client", program="ssh-keygen")

"""Fixtures for the tests of strategies."""

import pytest

from distdl.core.config import Config
from distdl.strategies.single import Single


@pytest.fixture
def single() -> Single:
    """The strategy of one process, before setup."""
    return Single(Config())

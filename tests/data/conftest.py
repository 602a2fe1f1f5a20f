"""Fixtures for the tests of `distdl.data`."""

import pytest


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """See `own_cache`."""

"""A server of a job's store, for the tests of it and of its clients."""

from collections.abc import Iterator

import pytest

from distdl.runtime.store_server import StoreServer
from stores import KEY


@pytest.fixture
def server() -> Iterator[StoreServer]:
    with StoreServer(KEY, ["127.0.0.1"]) as made:
        yield made

"""The key of the store in tests, and a client that has it."""

from distdl.runtime.store_client import StoreClient
from distdl.runtime.store_server import StoreServer

KEY = bytes(range(32))


def client(server: StoreServer) -> StoreClient:
    """Connect to a server on this machine."""
    return StoreClient(KEY, "127.0.0.1", [server.port], 30)

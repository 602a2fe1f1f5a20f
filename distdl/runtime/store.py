"""torch's interface to the authenticated key-value store of a job (`runtime.store_server`)."""

from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

from distdl.runtime.store_client import StoreClient
from distdl.runtime.store_server import StoreServer
from distdl.runtime.torch_private import Store

Value = str | bytes


class AuthenticatedStore(Store):
    """A store of torch.distributed whose server admits only processes with the job's key.

    Keep a reference as long as a process group uses it: torch (2.15) does not, and calls these methods.

    Args:
        key: key of the job.
        host: host of the server.
        ports: ports to look for the server on; another program may listen on some of them.
        timeout: for the connection, and for each wait.
        server: the server, if it is in this process: it exists as long as this store.
    Raises:
        DistNetworkError: if no server with the key is found in time.
    """

    def __init__(
        self, key: bytes, host: str, ports: Sequence[int], timeout: timedelta, server: StoreServer | None = None
    ) -> None:
        super().__init__()
        self._timeout = timeout
        self._server = server
        try:
            self._client = StoreClient(key, host, ports, timeout.total_seconds())
        except OSError as error:
            raise dist.DistNetworkError(str(error)) from error

    def set_timeout(self, timeout: timedelta) -> None:
        """Set the time that `wait`, `get` and `queue_pop` wait."""
        self._timeout = timeout

    def set(self, key: str, value: Value) -> None:
        """Set the value of a key."""
        self._ask("set", key, value)

    def get(self, key: str) -> bytes:
        """Return the value of a key; wait until it exists."""
        return self.multi_get([key])[0]

    def add(self, key: str, value: int) -> int:
        """Add to a number, 0 if the key does not exist. Returns the sum."""
        return int(self._ask("add", key, str(value))[0])

    def append(self, key: str, value: Value) -> None:
        """Append to the value of a key."""
        self._ask("append", key, value)

    def compare_set(self, key: str, expected_value: Value, desired_value: Value) -> bytes:
        """Set a value if the current one is `expected_value`. Returns the value afterwards."""
        return self._ask("compare_set", key, expected_value, desired_value)[0]

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Wait until all keys exist."""
        self._wait("wait", *keys, timeout=timeout)

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys exist."""
        return self._ask("check", *keys) == [b"1"]

    def delete_key(self, key: str) -> bool:
        """Delete a key. Returns whether it existed."""
        return self._ask("delete_key", key) == [b"1"]

    def list_keys(self) -> list[str]:
        """Return all keys."""
        return [key.decode() for key in self._ask("list_keys")]

    def num_keys(self) -> int:
        """Return the number of keys."""
        return len(self.list_keys())

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Return the values of several keys; wait until they exist."""
        return self._wait("get", *keys)

    def multi_set(self, keys: Sequence[str], values: Sequence[Value]) -> None:
        """Set the values of several keys."""
        self._ask("set", *(each for pair in zip(keys, values, strict=True) for each in pair))

    def queue_push(self, key: str, value: Value) -> None:
        """Add a value to the end of a queue."""
        self._ask("queue_push", key, value)

    def queue_pop(self, key: str, block: bool = True) -> bytes:
        """Take the first value of a queue; wait for one if `block`."""
        return self._wait("queue_pop", key, timeout=None if block else timedelta())[0]

    def queue_len(self, key: str) -> int:
        """Return the number of values in a queue."""
        return int(self._ask("queue_len", key)[0])

    def has_extended_api(self) -> bool:
        """Whether append, multi_get, multi_set and queues can be used."""
        return True

    def clone(self) -> "AuthenticatedStore":
        """Return this store: each thread has its own connection."""
        return self

    def _wait(self, operation: str, *keys: str, timeout: timedelta | None = None) -> list[bytes]:
        seconds = (self._timeout if timeout is None else timeout).total_seconds()
        return self._ask(operation, str(int(seconds * 1e3)), *keys, wait_s=seconds)

    def _ask(self, operation: str, *arguments: Value, wait_s: float = 0.0) -> list[bytes]:
        """Send a request and return the answer.

        Raises:
            DistNetworkError: if the server has ended or cannot be reached.
            DistStoreError: if a key did not exist in time, or the request has no answer.
        """
        try:
            return self._client.ask(operation, *arguments, wait_s=wait_s)
        except (TimeoutError, ValueError) as error:
            names = ", ".join(each for each in arguments[:3] if isinstance(each, str))[:200]
            raise dist.DistStoreError(f"{operation} {names} in the store of this job: {error}") from error
        except OSError as error:
            raise dist.DistNetworkError(f"the store of this job cannot be reached: {error}") from error

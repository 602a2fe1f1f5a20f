"""Client of the authenticated key-value store of a job (`runtime.store_server`), without torch."""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence

from distdl.runtime.channel import HEADER, KEY_BYTES, SecureSession, pack, unpack
from distdl.runtime.store_server import DONE, HANDSHAKE_S, TIMEOUT

POLL_S = 0.05
MARGIN_S = 30.0
"""Seconds that an answer may be late, beyond the time that the server waits."""


class StoreClient:
    """Requests to the server that has the key.

    Each thread has its own connection, so that one that waits for a key does not delay the others.

    Args:
        key: key of the job.
        host: host of the server.
        ports: ports to look for the server on; another program may listen on some of them.
        timeout_s: seconds to look for it.
    Raises:
        OSError: if it is not found in time; with the reason.
    """

    def __init__(self, key: bytes, host: str, ports: Sequence[int], timeout_s: float) -> None:
        self._key, self.host, self.ports, self.timeout_s = key, host, tuple(ports), timeout_s
        self._local = threading.local()
        self.port = self._connection().port
        """Port on which the server was found."""

    def ask(self, operation: str, *arguments: str | bytes, wait_s: float = 0.0) -> list[bytes]:
        """Send a request and return the answer. The operations are those of `store_server.KeyTable`.

        Args:
            wait_s: seconds that the server may wait before it answers.
        Raises:
            OSError: if the server has ended or cannot be reached.
            TimeoutError: if a key did not exist in time.
            ValueError: if the server refuses the request.
        """
        fields = [each.encode() if isinstance(each, str) else each for each in (operation, *arguments)]
        try:
            state, *answer = unpack(self._connection().ask(pack(fields), wait_s + MARGIN_S))
        except BaseException:  # also an interrupt: the answer to this request would be read as the next one's
            self._local.connection = None
            raise
        if state == DONE:
            return answer
        if state == TIMEOUT:
            raise TimeoutError(f"nothing came within {wait_s:g} s")
        raise ValueError(answer[0].decode())

    def _connection(self) -> "Connection":
        """The connection of this thread."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._key, self.host, self.ports, self.timeout_s)
        return connection


def connect(key: bytes, host: str, ports: Sequence[int], timeout_s: float) -> "Connection":
    """Connect to the server that has the key; wait until there is one.

    Raises:
        OSError: if there is none in time, with the last reason.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        reasons = {}
        for port in ports:
            try:
                return Connection(key, host, port)
            except OSError as error:
                reasons[port] = error
        if time.monotonic() > deadline:
            # A server of somebody else, or of a job with another key, says more than a port without a server.
            others = [each for each in reasons.values() if not isinstance(each, ConnectionRefusedError)]
            last = (others or list(reasons.values()))[0]
            raise ConnectionError(f"no store of this job on {host} within {timeout_s:g} s: {last}")
        time.sleep(POLL_S)


class Connection:
    """A connection on which both sides have proved the key."""

    def __init__(self, key: bytes, host: str, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection((host, port), timeout=HANDSHAKE_S)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._session = SecureSession(key, is_server=False)
            number = self._receive(KEY_BYTES)
            self._socket.sendall(self._session.number)
            self._session.begin(number)
            self._socket.sendall(self._session.proof())
            self._session.check_proof(self._receive(KEY_BYTES))
        except BaseException:
            self._socket.close()
            raise

    def ask(self, request: bytes, timeout_s: float) -> bytes:
        self._socket.settimeout(timeout_s)
        self._socket.sendall(self._session.seal(request))
        header = self._receive(HEADER.size)
        return self._session.unseal(header, self._receive(self._session.length(header)))

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the other side has closed the connection")
            data += part
        return bytes(data)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self._socket.close()

"""Server of a key-value store for the rendezvous of a job's ranks. Only processes with the job's key can use it.

torch's TCPStore listens on all interfaces and trusts every connection. This one listens on the given addresses, and a
connection that has not proved its key within `HANDSHAKE_S` is closed. Values are bytes, which the server does not
interpret. `runtime.store` is the client.
"""

import asyncio
import contextlib
import errno
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from distdl.runtime.channel import HEADER, KEY_BYTES, SecureSession, pack, unpack

HANDSHAKE_S = 5.0
"""Seconds in which a new connection must prove that it has the key."""
MAX_STRANGERS = 256
"""Connections without a proof that are open at once; further ones are closed."""
DISCONNECTED = (OSError, EOFError, ValueError, TimeoutError, asyncio.CancelledError)
"""Errors that end a connection: of the network, of a client without the key, and the end of the server."""
DONE, TIMEOUT, REFUSED = b"done", b"timeout", b"refused"
"""First field of an answer."""


class StoreServer:
    """A store that is served by a thread. It listens from the start, and answers after `start` or in a `with` block.

    Args:
        key: key of the job.
        addresses: addresses of this machine to listen on.
        ports: ports to try in this order, the same one on all addresses; 0: any free one.
    Raises:
        OSError: if all ports are in use or an address is not one of this machine.
    """

    def __init__(self, key: bytes, addresses: Sequence[str], ports: Sequence[int] = (0,)) -> None:
        self._sockets = listen(addresses, ports)
        self.port: int = self._sockets[0].getsockname()[1]
        self._table = KeyTable()
        self._key = key
        self._strangers = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)

    def start(self) -> Self:
        """Start to answer, until `close` or the end of the process."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def close(self) -> None:
        """Close all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _listen(self) -> None:
        self._servers = [await asyncio.start_server(self._serve, sock=each) for each in self._sockets]

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.closing(writer), contextlib.suppress(*DISCONNECTED):
            session = await self._admit(reader, writer)
            while True:
                header = await reader.readexactly(HEADER.size)
                request = session.unseal(header, await reader.readexactly(session.length(header)))
                answer = await self._table.answer(unpack(request))
                writer.write(session.seal(pack(answer)))
                await writer.drain()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> SecureSession:
        """Exchange proofs of the key.

        Raises:
            OSError, EOFError, TimeoutError: if the other side gives none.
        """
        if self._strangers >= MAX_STRANGERS:
            raise ConnectionRefusedError("too many connections without a proof")
        self._strangers += 1
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                session = SecureSession(self._key, is_server=True)
                writer.write(session.number)
                session.begin(await reader.readexactly(KEY_BYTES))
                session.check_proof(await reader.readexactly(KEY_BYTES))
                writer.write(session.proof())
                await writer.drain()
                return session
        finally:
            self._strangers -= 1


def listen(addresses: Sequence[str], ports: Sequence[int]) -> list[socket.socket]:
    """Return sockets that listen on all addresses, at the first port that is free on all of them.

    Raises:
        OSError: if there is none.
    """
    for port in ports[:-1]:
        try:
            return _listen(addresses, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _listen(addresses, ports[-1])


def _listen(addresses: Sequence[str], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sockets.append(socket.create_server((address, port), family=family, backlog=4096))
            port = sockets[0].getsockname()[1]
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


class KeyTable:
    """Values by key, with the operations of torch's stores (torch/csrc/distributed/c10d/Store.hpp)."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._queues: dict[bytes, deque[bytes]] = {}
        self._changed = asyncio.Condition()
        self._operations: dict[bytes, Callable[..., Any]] = {
            b"set": self._set,
            b"add": self._add,
            b"append": self._append,
            b"compare_set": self._compare_set,
            b"get": self._get,
            b"wait": self._wait,
            b"check": self._check,
            b"delete_key": self._delete_key,
            b"list_keys": self._list_keys,
            b"queue_push": self._queue_push,
            b"queue_pop": self._queue_pop,
            b"queue_len": self._queue_len,
        }

    async def answer(self, request: Sequence[bytes]) -> list[bytes]:
        """Return the answer to a request: the name of an operation and its arguments."""
        try:
            return [DONE, *await self._operations[request[0]](*request[1:])]
        except TimeoutError:
            return [TIMEOUT]
        except (LookupError, TypeError, ValueError) as error:
            return [REFUSED, repr(error).encode()]

    async def _set(self, *pairs: bytes) -> list[bytes]:
        async with self._changed:
            self._values.update(zip(pairs[::2], pairs[1::2], strict=True))
            self._changed.notify_all()
        return []

    async def _add(self, key: bytes, amount: bytes) -> list[bytes]:
        total = b"%d" % (int(self._values.get(key, b"0")) + int(amount))
        await self._set(key, total)
        return [total]

    async def _append(self, key: bytes, value: bytes) -> list[bytes]:
        return await self._set(key, self._values.get(key, b"") + value)

    async def _compare_set(self, key: bytes, expected: bytes, desired: bytes) -> list[bytes]:
        current = self._values.get(key)
        if current == expected or (current is None and not expected):
            await self._set(key, desired)
            return [desired]
        return [expected if current is None else current]

    async def _get(self, timeout: bytes, *keys: bytes) -> list[bytes]:
        await self._wait(timeout, *keys)
        return [self._values[key] for key in keys]

    async def _wait(self, timeout: bytes, *keys: bytes) -> list[bytes]:
        """Wait up to `timeout` ms until all keys exist."""
        await self._until(timeout, lambda: all(key in self._values for key in keys))
        return []

    async def _until(self, timeout: bytes, condition: Callable[[], bool]) -> None:
        if not condition():
            async with asyncio.timeout(int(timeout) / 1e3), self._changed:
                await self._changed.wait_for(condition)

    async def _check(self, *keys: bytes) -> list[bytes]:
        return [b"%d" % all(key in self._values for key in keys)]

    async def _delete_key(self, key: bytes) -> list[bytes]:
        return [b"%d" % (self._values.pop(key, None) is not None)]

    async def _list_keys(self) -> list[bytes]:
        return list(self._values)

    async def _queue_push(self, key: bytes, value: bytes) -> list[bytes]:
        async with self._changed:
            self._queues.setdefault(key, deque()).append(value)
            self._changed.notify_all()
        return []

    async def _queue_pop(self, timeout: bytes, key: bytes) -> list[bytes]:
        """Take the oldest value of a queue; wait up to `timeout` ms for one."""
        await self._until(timeout, lambda: bool(self._queues.get(key)))
        return [self._queues[key].popleft()]

    async def _queue_len(self, key: bytes) -> list[bytes]:
        return [b"%d" % len(self._queues.get(key, ()))]

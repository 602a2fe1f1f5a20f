"""The hosts of a job: their agents wait for each other at the start, and end their ranks if those of another fail."""

import contextlib
import os
import socket
import time
from collections.abc import Sequence

from distdl.core.errors import Failure, UserError
from distdl.core.text import print_line
from distdl.runtime.store_client import StoreClient

JOIN_S = 600.0
"""Seconds that the agents wait for each other at the start."""
NOTICE_S = 10.0
"""Seconds after which an agent says that it waits."""
LEAVE_S, LEAVE_FAILED_S = 600.0, 5.0
"""Seconds that the first agent, which serves the store, waits for the others: at the end, and after a failure."""
POLL_S = 0.5


class Members:
    """This host among those of a job.

    Args:
        key: key of the job.
        host: host of the store.
        ports: ports to look for it on.
        count: number of hosts.
        number: number of this host; None: in the order of arrival, after 0.
    Raises:
        Failure: if a host does not come within `JOIN_S`.
        UserError: if another host has the same number.
    """

    def __init__(self, key: bytes, host: str, ports: Sequence[int], count: int, number: int | None) -> None:
        try:
            self._store = StoreClient(key, host, ports, JOIN_S)
        except OSError as error:
            raise Failure(f"{error}: start the same command on all hosts, with the same key") from None
        self.port = self._store.port
        self.number = int(self._store.ask("add", "hosts", "1")[0]) if number is None else number
        self._count, self._checked_at, self._failed = count, 0.0, False
        self._claim()
        self._join()

    def has_failed(self) -> bool:
        """Whether ranks of another host have failed, or the first agent has ended. Asks every `POLL_S`."""
        if not self._failed and time.monotonic() > self._checked_at + POLL_S:
            self._checked_at = time.monotonic()
            try:
                self._failed = self._store.ask("check", "failed") == [b"1"]
            except OSError:
                self._failed = True
        return self._failed

    def leave(self, *, failed: bool) -> None:
        """Report to the others that the ranks of this host have ended. The first agent then waits for the others."""
        with contextlib.suppress(OSError):
            if failed:
                self._store.ask("set", "failed", "")
            self._store.ask("set", f"left/{self.number}", "")
            if self.number == 0:
                self._wait("left", LEAVE_FAILED_S if failed or self.has_failed() else LEAVE_S)

    def _claim(self) -> None:
        name = f"{socket.gethostname()} (pid {os.getpid()})"
        holder = self._store.ask("compare_set", f"host/{self.number}", "", name)[0].decode()
        if holder != name:
            raise UserError(f"host number {self.number} of {self._count} is {holder} already: see --node-rank")

    def _join(self) -> None:
        try:
            self._wait("host", NOTICE_S)
        except TimeoutError:
            print_line(f"waiting for the {self._count} hosts of this job: {self._missing()}", to_stderr=True)
            try:
                self._wait("host", JOIN_S - NOTICE_S)
            except TimeoutError:
                raise Failure(
                    f"{self._missing()} within {JOIN_S:.0f} s: start the same command on all hosts, with the same key"
                ) from None

    def _missing(self) -> str:
        numbers = [n for n in range(self._count) if self._store.ask("check", f"host/{n}") == [b"0"]]
        return f"host number {', '.join(map(str, numbers))} has not come"

    def _wait(self, what: str, seconds: float) -> None:
        keys = [f"{what}/{number}" for number in range(self._count)]
        self._store.ask("wait", str(int(seconds * 1e3)), *keys, wait_s=seconds)

"""Forked ranks of Horovod, with its rendezvous server, host assignment and environment variables."""

from collections.abc import Callable, Mapping, Sequence

from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
from horovod.runner.http.http_server import RendezvousServer

from jobs import QUIET, Ranks


class HorovodRanks(Ranks):
    """`horovodrun -np RANKS --gloo python -m distdl.train ARGV`, without an import of torch per rank."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        ranks: int = 2,
        env: Mapping[str, str] | None = None,
        main: Callable[[list[str]], int] | None = None,
    ) -> None:
        plan = get_host_assignments(parse_hosts(f"localhost:{ranks}"), ranks)
        self._server = RendezvousServer()
        port = self._server.start()
        self._server.init(plan)
        common = {key: str(value) for key, value in create_run_env_vars("127.0.0.1", ["lo"], port).items()}
        super().__init__(argv, env=env, main=main, places=[{**common, **create_slot_env_vars(slot)} for slot in plan])

    def kill(self) -> None:
        super().kill()
        if self._server:
            self._server.stop()
            self._server._httpd.server_close()  # Horovod leaves its socket open
            self._server = None


def horovod_train(argv: Sequence[str], *, ranks: int = 2, timeout: float = 240, **env: str) -> None:
    """Train to the end. Fails if any rank fails."""
    codes = HorovodRanks([*argv, *QUIET], ranks=ranks, env=env).wait(timeout)
    assert codes == [0] * ranks, f"exit codes {codes} of distdl.train {' '.join(argv)}"

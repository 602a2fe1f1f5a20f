"""Horovod elastic: requirements, and points of interruption. tests/integration/test_elastic.py runs jobs."""

import subprocess
import sys
from pathlib import Path

import pytest

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.training import elastic
from distdl.training.events import Callback


class Interrupt(Exception):
    """Stands for Horovod's HostsUpdatedInterrupt."""


class State:
    """The part of Horovod's state that checks for new hosts."""

    calls = 0

    def check_host_updates(self) -> None:
        self.calls += 1
        if self.calls == 2:
            raise Interrupt


def test_new_hosts_interrupt_the_training_only_at_a_checkpoint() -> None:
    state = State()
    watch = elastic.HostWatch(state)
    watch.checkpoint(None)
    with pytest.raises(Interrupt):
        watch.checkpoint(None)
    assert vars(Callback).keys() & {name for name in vars(elastic.HostWatch) if name[0] != "_"} == {"checkpoint"}


@pytest.mark.parametrize("fields", [{}, {"out": Path("run")}, {"out": Path("run"), "resume": "other"}])
def test_an_elastic_job_needs_a_run_folder_to_continue_from(fields: dict) -> None:
    pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
    with pytest.raises(UserError, match="from the newest checkpoint of its run folder: add --out DIR --resume auto"):
        elastic.run(Config(**fields), lambda *_: pytest.fail("trained"))


ALONE = """
from pathlib import Path
from distdl.core.config import Config
from distdl.training import elastic

config = Config(out=Path("run"), resume="auto")
print(elastic.run(config, lambda given, callbacks: (given is config, [type(each).__name__ for each in callbacks])))
"""


def test_a_rank_without_others_trains_once_and_watches_for_hosts() -> None:
    pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=120)
    assert done.stdout == "(True, ['HostWatch'])\n", done.stderr

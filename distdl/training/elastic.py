"""Horovod elastic: a job that goes on, from its newest checkpoint, when hosts disappear or appear.

`horovodrun --min-np 1 --max-np 8 --host-discovery-script FILE` starts and ends ranks as hosts come and go. Those that
are left meet anew as a smaller or larger world; the run folder tells all of them where the training stands.
"""

from collections.abc import Callable
from typing import Any

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.training.events import Callback, Training


class HostWatch(Callback):
    """Leaves the training at a checkpoint when Horovod has told of a new host, so that nothing is trained twice."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def checkpoint(self, trainer: Training) -> None:
        self._state.check_host_updates()  # the same answer on every rank; raises HostsUpdatedInterrupt


def run(config: Config, train: Callable[[Config, tuple[Callback, ...]], int]) -> int:
    """Train as one rank of an elastic job. Returns what `train` does once a world has come to the end.

    Args:
        train: sets up the strategy anew, trains with the listeners given, and closes it.
    Raises:
        UserError: without a run folder to go on from.
    """
    import horovod.torch as hvd
    from horovod.common.elastic import ObjectState

    if config.out is None or config.resume != "auto":
        raise UserError(
            "elastic training goes on from the newest checkpoint of its run folder: add --out DIR --resume auto"
        )
    hvd.init()

    @hvd.elastic.run
    def until_the_world_changes(state: Any) -> int:
        return train(config, (HostWatch(state),))

    return until_the_world_changes(ObjectState(bcast_object=hvd.broadcast_object, get_rank=hvd.rank))

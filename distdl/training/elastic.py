"""Horovod elastic: a job that continues from its newest checkpoint when hosts are removed or added.

`horovodrun --min-np 1 --max-np 8 --host-discovery-script FILE` starts and ends ranks when the set of hosts changes. The
ranks form a new world of another size; all of them read the position of the training from the run folder.
"""

from collections.abc import Callable
from typing import Any

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.training.events import Callback, Training


class HostWatch(Callback):
    """Interrupts the training after a checkpoint when Horovod has reported a new host, so that no step is repeated."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def checkpoint(self, trainer: Training) -> None:
        self._state.check_host_updates()  # the same result on every rank; raises HostsUpdatedInterrupt


def run(config: Config, train: Callable[[Config, tuple[Callback, ...]], int]) -> int:
    """Train as one rank of an elastic job. Returns the result of the call of `train` that reaches the end.

    Args:
        train: sets up the strategy, trains with the given callbacks and closes the strategy; called once per world.
    Raises:
        UserError: without a run folder to resume from.
    """
    import horovod.torch as hvd
    from horovod.common.elastic import ObjectState

    if config.out is None or config.resume != "auto":
        raise UserError(
            "elastic training resumes from the newest checkpoint of its run folder: add --out DIR --resume auto"
        )
    hvd.init()

    @hvd.elastic.run
    def train_in_current_world(state: Any) -> int:
        return train(config, (HostWatch(state),))

    return train_in_current_world(ObjectState(bcast_object=hvd.broadcast_object, get_rank=hvd.rank))

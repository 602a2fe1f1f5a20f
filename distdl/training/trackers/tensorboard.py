"""TensorBoard as a tracker: event files in RUN/tensorboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes scalars for TensorBoard."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "tensorboard"
        self._writer: SummaryWriter | None = None

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Do nothing: config.toml contains the configuration."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self._folder, purge_step=step)  # drops the later steps of an earlier start
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def log_result(self, result: Mapping[str, Any]) -> None:
        """Do nothing: result.json contains the result."""

    def close(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close()

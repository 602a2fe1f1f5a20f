"""TensorBoard as a tracker, and the older option for it."""

from pathlib import Path

import pytest

from jobs import QUIET, Ranks

pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'distdl[tensorboard]'")


def scalars(run: Path) -> dict[str, list[int]]:
    """Steps of each scalar, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.parametrize("argv", [("--trackers", "tensorboard"), ("--telemetry.tensorboard",)], ids=["new", "older"])
def test_scalars_of_a_resumed_run_are_written_once_per_step(tmp_path: Path, argv: tuple[str, ...]) -> None:
    run = tmp_path / "run"
    command = ["--epochs", "2", "--log-every-s", "0", *argv, *QUIET, "--out", str(run)]
    first = Ranks([*command, "--max-steps", "10"])
    assert first.wait() == [0], first.text
    second = Ranks([*command, "--max-steps", "14", "--resume", "auto"])
    assert second.wait() == [0], second.text
    written = scalars(run)
    assert set(written) == {"train/loss", "train/lr", "test/accuracy", "test/loss"}
    assert written["train/loss"] == list(range(1, 15))
    assert ("telemetry.tensorboard is an older name" in first.text) == (argv == ("--telemetry.tensorboard",))

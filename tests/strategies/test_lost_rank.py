"""A lost rank ends the others with a one-line error, without a launcher that ends them, as on another host."""

import os
import signal
from pathlib import Path

import pytest

from distdl.core.result import read_result
from jobs import QUIET, Ranks, step_of, wait_for


def start(strategy: str, argv: list[str]) -> Ranks:
    if strategy == "horovod":
        pytest.importorskip("horovod.torch", reason="Horovod is not installed: containers/horovod/build.sh builds it")
        from horovod_ranks import HorovodRanks

        return HorovodRanks(argv, ranks=2)
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'distdl[deepspeed]'")
    return Ranks(argv, ranks=2)


@pytest.mark.world_size(2)
@pytest.mark.parametrize("strategy", ["ddp", "horovod", "deepspeed"])
def test_a_killed_rank_ends_the_others_with_one_line(tmp_path: Path, strategy: str) -> None:
    run = tmp_path / "run"
    argv = ["--epochs", "1000", "--strategy", strategy, "--log-every-s", "0", "--out", str(run), *QUIET]
    job = start(strategy, argv)
    wait_for(lambda: step_of(run) > 2, 120)
    os.kill(job.processes[1].pid, signal.SIGKILL)
    job.processes[0].join(120)
    assert job.processes[0].exitcode == 1, job.text
    assert "error: another rank ended or cannot be reached; see its output (" in job.text
    assert "Traceback" not in job.text
    assert read_result(run)["status"] == "failed"


def test_too_little_memory_is_a_one_line_error(tmp_path: Path) -> None:
    """The training needs a petabyte."""
    argv = ["--data.image_size", "1000000", "--out", str(tmp_path / "run"), *QUIET]
    job = Ranks(argv)
    assert job.wait() == [1]
    assert "error: out of memory: use a smaller data.batch_size" in job.text
    assert "Traceback" not in job.text

"""Selection of the run folder and of the checkpoint to resume from, without writing a file."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint_folders import write_checkpoint
from distdl.core import runlock
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.manifest import STATE
from distdl.core.rundir import RunDir
from distdl.strategies.single import Single
from distdl.training.entry import Entry, find, locate
from run_folders import tree
from thread_strategies import ddp_of


@pytest.fixture(autouse=True)
def unlocked() -> Iterator[None]:
    """Release the locks that a test still holds."""
    yield
    for lock in list(runlock._held):
        runlock.release(lock.parent)


def unchanging(config: Config) -> Entry:
    """Call `locate` and assert that it changes no file."""
    folders = [folder for folder in (Path.cwd(), config.out) if folder]
    previous = [tree(folder) for folder in folders]
    try:
        return locate(config)
    finally:
        assert [tree(folder) for folder in folders] == previous


def run_of(path: Path, *steps: int, rows: int = 1, metric: float | None = None, **leg: Any) -> Path:
    """Write a run folder with checkpoints of these steps, without a lock."""
    run = RunDir(path)
    run.enter(Config(), strategy="single", leg=leg)
    for step in range(1, rows + 1):
        run.metrics({"time_s": 1.0, "step": step, "epoch": 0, "kind": "train"})
    run.close()
    for step in steps:
        write_checkpoint(path / "checkpoints", step, metric)
    return path.resolve()


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def test_a_new_run_has_a_folder_and_no_start(tmp_path: Path) -> None:
    place = unchanging(Config(out=Path("new/run")))
    assert (place.path, place.start, place.source, place.evaluated) == (tmp_path / "new" / "run", None, None, False)
    assert unchanging(Config(name="mine")).path.name.startswith("mine-")
    assert unchanging(Config(name="mine")).path.parent == tmp_path / "runs"


@pytest.mark.parametrize(("steps", "rows"), [((), 1), ((3,), 0)])
def test_a_folder_with_a_run_is_refused(tmp_path: Path, steps: tuple[int, ...], rows: int) -> None:
    run = run_of(tmp_path / "run", *steps, rows=rows)
    with pytest.raises(UserError, match=f"^{run} already contains a run: resume it with --resume auto, or choose"):
        unchanging(Config(out=run))


def test_a_folder_without_checkpoint_and_measurements_is_not_a_run(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", rows=0)
    assert unchanging(Config(out=run)).path == run
    assert unchanging(Config(out=run, resume="auto")).start is None


@pytest.mark.parametrize("metric", [None, 0.0, 0.5])
def test_a_run_continues_from_its_newest_checkpoint(tmp_path: Path, metric: float | None) -> None:
    run = run_of(tmp_path / "run", 3, 10, metric=metric)
    place = unchanging(Config(out=run, resume="auto"))
    assert (place.start, place.source) == (checkpoint(run, 10), None)
    assert place.evaluated is (metric is not None)


def test_a_damaged_newest_checkpoint_is_a_warning_and_only_damaged_ones_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", 3, 10)
    (checkpoint(run, 10) / STATE).write_text("x")
    assert unchanging(Config(out=run, resume="auto")).start == checkpoint(run, 3)
    assert capsys.readouterr().err.startswith(f"warning: checkpoint {checkpoint(run, 10)} is damaged")
    (checkpoint(run, 3) / STATE).write_text("x")
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        unchanging(Config(out=run, resume="auto"))


@pytest.mark.parametrize("resume", ["auto", "run", "run/checkpoints/step-00000003"])
def test_a_run_that_others_can_change_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], resume: str
) -> None:
    run = run_of(tmp_path / "run", 3)
    config = Config(out=run if resume == "auto" else tmp_path / "out", resume=resume)
    unchanging(config)
    assert capsys.readouterr().err == ""
    (checkpoint(run, 3) / STATE).chmod(0o666)
    assert unchanging(config).start == checkpoint(run, 3)
    err = capsys.readouterr().err
    assert err.startswith(
        f"warning: checkpoint {checkpoint(run, 3)} can be changed by others: {checkpoint(run, 3) / STATE}"
    )
    assert err.count("\n") == 1


def test_measurements_without_a_checkpoint_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", rows=7)
    assert unchanging(Config(out=run, resume="auto")).start is None
    message = (
        f"{run} has measurements up to step 7 but no checkpoint: training starts again at step 0 and replaces them"
    )
    assert capsys.readouterr().err == f"warning: {message}\n"


def test_a_resume_from_an_earlier_checkpoint_sets_later_ones_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", 3, 10)
    place = unchanging(Config(out=run, resume=str(checkpoint(run, 3))))
    assert (place.start, place.source) == (checkpoint(run, 3), None)
    message = f"checkpoints after step 3 are set aside as {run}/checkpoints/replaced-step-*"
    assert capsys.readouterr().err == f"warning: {message}\n"
    for resume in (checkpoint(run, 10), run, run / "checkpoints"):
        assert unchanging(Config(out=run, resume=str(resume))).start == checkpoint(run, 10)
    assert capsys.readouterr().err == ""


def test_a_new_folder_continues_from_another_run(tmp_path: Path) -> None:
    source = run_of(tmp_path / "source", 3, 10)
    place = unchanging(Config(out=tmp_path / "out", resume="source"))
    assert (place.path, place.start, place.source) == (tmp_path / "out", checkpoint(source, 10), source)
    place = unchanging(Config(out=tmp_path / "out", resume=str(checkpoint(source, 3))))
    assert (place.start, place.source) == (checkpoint(source, 3), checkpoint(source, 3))
    with pytest.raises(UserError, match="absent holds no whole checkpoint: it does not exist"):
        unchanging(Config(out=tmp_path / "out", resume="absent"))


def test_a_resume_into_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    """Accepted is a folder that was resumed from the same run and has no checkpoint, as in a restart by torchrun."""
    source, third = (run_of(tmp_path / name, 3) for name in ("source", "third"))
    out = run_of(tmp_path / "out", resumed_from=str(source))
    assert unchanging(Config(out=out, resume=str(source))).start == checkpoint(source, 3)
    refused = rf"^{out} already contains a run, and --resume .* is outside it: resume that run with"
    with pytest.raises(UserError, match=refused):
        unchanging(Config(out=out, resume=str(third)))
    write_checkpoint(out / "checkpoints", 4)
    with pytest.raises(UserError, match=refused):
        unchanging(Config(out=out, resume=str(source)))
    assert unchanging(Config(out=out, resume="auto")).start == checkpoint(out, 4)


def test_the_last_start_of_a_run_states_its_source(tmp_path: Path) -> None:
    sources = [run_of(tmp_path / name, 3) for name in ("first", "second")]
    out = run_of(tmp_path / "out")
    legs = [{"resumed_from": str(source)} for source in sources]
    result = json.loads((out / "result.json").read_text())
    (out / "result.json").write_text(json.dumps({**result, "legs": legs}))
    assert unchanging(Config(out=out, resume=str(sources[1]))).start == checkpoint(sources[1], 3)
    with pytest.raises(UserError, match="is outside it"):
        unchanging(Config(out=out, resume=str(sources[0])))


@pytest.mark.parametrize("legs", [None, "text", [], [3], [{}]])
def test_a_result_with_invalid_legs_has_no_source(tmp_path: Path, legs: Any) -> None:
    source, out = run_of(tmp_path / "source", 3), run_of(tmp_path / "out")
    result = json.loads((out / "result.json").read_text())
    (out / "result.json").write_text(json.dumps({**result, "legs": legs}))
    with pytest.raises(UserError, match="is outside it"):
        unchanging(Config(out=out, resume=str(source)))


@pytest.mark.parametrize("resume", ["", "auto"])
def test_a_folder_in_use_is_refused(tmp_path: Path, resume: str) -> None:
    run, (reader, writer) = tmp_path / "run", os.pipe()
    child = os.fork()
    if child == 0:
        RunDir(run).enter(Config(), strategy="single")
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    try:
        with pytest.raises(UserError, match=rf"^{run} is in use by another training \(on host .*, process {child}\)"):
            unchanging(Config(out=run, resume=resume))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    assert unchanging(Config(out=run, resume=resume)).path == run


def test_a_path_that_cannot_become_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to("/nowhere/else")
    for out, problem in {
        "file": f"{tmp_path / 'file'} is a file",
        "file/deep/run": f"{tmp_path / 'file'} is a file",
        "run": f"{tmp_path / 'run' / 'checkpoints'} is a link to /nowhere/else, which does not exist",
    }.items():
        with pytest.raises(UserError) as error:
            unchanging(Config(out=Path(out)))
        assert str(error.value) == f"the run folder {tmp_path / out} cannot be written: {problem}"


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: (place, mode) != (tmp_path, os.W_OK | os.X_OK))
    with pytest.raises(UserError, match=f"cannot be written: {tmp_path} is read-only for this user$"):
        unchanging(Config(out=tmp_path / "deep" / "run"))


@pytest.mark.world_size(2)
def test_every_rank_receives_the_folder_of_rank_0(in_ranks: Callable, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 3, metric=0.5)
    configs = [Config(out=run, resume="auto"), Config(out=Path("/nowhere"), resume="auto")]
    first, second = in_ranks(lambda rank: find(configs[rank], ddp_of(rank, 2)))
    assert (first.path, first.start, first.source, first.evaluated) == (run, checkpoint(run, 3), None, True)
    assert first.seen == locate(configs[0]).seen
    assert second == Entry(path=run, start=checkpoint(run, 3), evaluated=True)
    new = find(Config(out=tmp_path / "new", resume=str(run)), Single(Config()))
    assert (new.source, new.start) == (run, checkpoint(run, 3))


@pytest.mark.world_size(2)
def test_every_rank_raises_the_error_of_rank_0(in_ranks: Callable, tmp_path: Path) -> None:
    run, messages = run_of(tmp_path / "run", 3), []
    configs = [Config(out=run), Config(out=tmp_path / "new")]

    def refused(rank: int) -> None:
        with pytest.raises(UserError) as error:
            find(configs[rank], ddp_of(rank, 2))
        messages.append(str(error.value))

    in_ranks(refused)
    assert len(messages) == 2 and len(set(messages)) == 1 and "already contains a run" in messages[0]


def test_a_name_that_is_too_long_is_a_one_line_error() -> None:
    with pytest.raises(UserError, match=r"x{300}.*: File name too long$"):
        find(Config(out=Path("x" * 300)), Single(Config()))

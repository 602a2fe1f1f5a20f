"""A pipe, a socket or a device instead of any file of a run, a study or a data set: one line, and no command waits."""

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from checkpoint_folders import write_checkpoint
from distdl.cli.data_bench import _network
from distdl.core import checkpoints
from distdl.core.config import Config, DataConfig
from distdl.core.errors import UserError
from distdl.core.files import read_rows
from distdl.core.manifest import MANIFEST, STATE
from distdl.core.result import current_result
from distdl.core.run_files import CHECKPOINTS
from distdl.core.rundir import RunDir
from distdl.data.files import Unreadable, read
from distdl.data.sets.catalog import SETS
from distdl.data.sets.load import load
from distdl.data.storage import shards
from distdl.models import weights
from distdl.runtime.launch_env import TorchrunJob
from distdl.runtime.tensors import read_tensors
from distdl.studies.leaderboard.event_log import Lineage
from distdl.studies.runner.trial_process import call
from distdl.training.restart import _entered
from fuzz.targets import odd_values
from packed_sets import packed
from shard_files import png, samples, write_records, write_tar
from special_files import SPECIAL

LIMIT_S = 120
"""Seconds after which a reader counts as waiting."""


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """End a test that waits."""

    def fail(*_: object) -> None:
        raise TimeoutError("the reader waits for a pipe or a device")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def replaced(file: Path, kind: str) -> None:
    """Replace a file by a special one."""
    file.unlink()
    SPECIAL[kind](file)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and a study of two trials."""
    folder = tmp_path_factory.mktemp("seeds")
    odd_values.seeds(folder)
    write_checkpoint(folder / "run" / CHECKPOINTS, 2)
    return folder


FILES = {
    "run": ("config.toml", "environment.json", "metrics.jsonl", "result.json", "telemetry.jsonl"),
    "study": (
        "study.toml",
        "findings.json",
        *(f"trials/single-1-seed0/{name}" for name in ("trial.json", "result.json", "metrics.jsonl")),
    ),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(("folder", "file"), [(folder, file) for folder, files in FILES.items() for file in files])
def test_report_explain_and_show_do_not_wait(folder: str, file: str, kind: str, seeds: Path, tmp_path: Path) -> None:
    shutil.copytree(seeds / folder, tmp_path / folder)
    replaced(tmp_path / folder / file, kind)
    with contextlib.suppress(UserError):
        odd_values.read(tmp_path / folder)


RUN_READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "enter, rows": ("metrics.jsonl", lambda run: RunDir(run).enter(Config(), strategy="single", step=3)),
    "enter, telemetry": ("telemetry.jsonl", lambda run: RunDir(run).enter(Config(), strategy="single", step=3)),
    "enter, configuration": ("config.toml", lambda run: RunDir(run).enter(Config(), strategy="single", step=3)),
    "result": ("result.json", current_result),
    "rows of a run": ("metrics.jsonl", lambda run: list(read_rows(run / "metrics.jsonl"))),
    "speed of a run": ("result.json", _network),
    "restart": ("environment.json", lambda run: _entered(run, TorchrunJob(run_id="a", restarts=1, max_restarts=1))),
    "manifest": (f"checkpoints/step-00000002/{MANIFEST}", lambda run: checkpoints.find(run, warn=lambda _: None)),
    "state": (f"checkpoints/step-00000002/{STATE}", lambda run: checkpoints.find(run, warn=lambda _: None)),
    "tensors": (
        f"checkpoints/step-00000002/{STATE}",
        lambda run: read_tensors(run / "checkpoints/step-00000002" / STATE),
    ),
    "weights": (
        f"checkpoints/step-00000002/{STATE}",
        lambda run: weights.read(run / "checkpoints/step-00000002" / STATE),
    ),
    "trial": ("result.json", lambda run: (run / "result.json").rename(run / "trial.json") and call(run)),
    "board": ("result.json", lambda run: Lineage(run / "result.json").catch_up()),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("reader", RUN_READERS)
def test_readers_of_a_run_do_not_wait(reader: str, kind: str, seeds: Path, tmp_path: Path) -> None:
    file, read_run = RUN_READERS[reader]
    shutil.copytree(seeds / "run", tmp_path / "run")
    replaced(tmp_path / "run" / file, kind)
    with contextlib.suppress(UserError):
        read_run(tmp_path / "run")


def image_folder(folder: Path) -> None:
    for part in ("train", "test"):
        for number in range(4):
            file = folder / part / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(number))


def listed_folder(folder: Path) -> None:
    image_folder(folder)
    (folder / "train" / "a").rename(folder / "a")
    (folder / "train" / "b").rename(folder / "b")
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    (folder / "train.txt").write_text("a/0.png\nb/1.png\n")
    (folder / "test.txt").write_text("a/2.png\nb/3.png\n")


def packed_folder(folder: Path) -> None:
    folder.parent.joinpath("made").mkdir()
    packed("shards", 12, folder.parent / "made")
    (folder.parent / "made/packed").rename(folder)


DATA: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "images": (image_folder, ("train/a/0.png", "test/b/1.png")),
    "lists": (listed_folder, ("train.txt", "test.txt", "a/0.png")),
    "shards": (lambda folder: write_tar(folder / "train-00000.tar", samples([0, 1, 0, 1, 0, 1])), ("train-00000.tar",)),
    "packed": (packed_folder, ("set.json", "train-00000.tar", "train-00000.npz", "train-00000.idx")),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(("layout", "file"), [(layout, file) for layout, (_, files) in DATA.items() for file in files])
def test_data_sets_are_read_without_waiting(
    layout: str, file: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    DATA[layout][0](folder)
    replaced(folder / file, kind)
    with contextlib.suppress(UserError):
        dataset = load(DataConfig(name=str(folder), normalize="none"))
        for image in dataset.train.files:
            with contextlib.suppress(Unreadable):
                read(image)
    if layout == "packed":
        list(shards.verify(folder))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_files_of_raw_bytes_are_read_without_waiting(name: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / SETS[name].folders[0]
    folder.mkdir(parents=True)
    for file in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "data_batch_1.bin"):
        SPECIAL[kind](folder / file)
    with pytest.raises(UserError, match=f"{folder}"):
        load(DataConfig(name=name, root=tmp_path))


@pytest.mark.parametrize("kind", SPECIAL)
def test_archives_and_records_are_read_without_waiting(kind: str, tmp_path: Path) -> None:
    for name in ("set.zip", "set.tar", "set.tar.gz"):
        SPECIAL[kind](tmp_path / name)
        with pytest.raises(UserError):
            load(DataConfig(name=str(tmp_path / name)))
    records = tmp_path / "records"
    records.mkdir()
    write_records(records / "train.rec", [0.0, 1.0])
    replaced(records / "train.idx", kind)
    with pytest.raises(UserError):
        shards.read(records, DataConfig())

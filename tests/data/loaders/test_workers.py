"""Loader torch: its worker processes, how they end, and the errors if they do not respond."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from distdl.core.config import Config, DataConfig
from distdl.core.errors import Failure
from distdl.data.loaders import make_loader, workers
from distdl.data.loaders.samples import Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.sets.load import load
from distdl.data.storage import decode
from distdl.runtime.torch_private import workers_of
from distdl.runtime.world import World
from numbered_sets import numbered
from repository import SUPPORT
from small_loaders import config_of, loader_of


@pytest.mark.parametrize(
    ("code", "text"), [(-9, "by signal SIGKILL"), (-7, "by signal SIGBUS"), (3, "with exit code 3")]
)
def test_the_description_of_a_workers_exit(code: int, text: str) -> None:
    assert workers._how(code) == text


def slots_of(kind: str, count: int, device: str, tmp_path: Path) -> torch.Tensor | None:
    dataset = numbered(kind, 9, tmp_path)
    spec = LoaderSpec(
        config=config_of("torch"),
        dataset=dataset,
        split=dataset.train,
        world=World(device=torch.device(device)),
        training=True,
    )
    return workers._slots(spec, count)


def test_slots_are_for_files_that_worker_processes_decode_for_the_cpu(tmp_path: Path) -> None:
    slots = slots_of("files", 2, "cpu", tmp_path)
    assert slots is not None and slots.shape == (2 * workers.PREFETCH + 2, 4, 24, 24, 3) and slots.dtype == torch.uint8
    assert slots_of("files", 0, "cpu", tmp_path) is None
    assert slots_of("memory", 2, "cpu", tmp_path) is None
    assert slots_of("files", 2, "cuda", tmp_path) is None


def test_slots_are_shared_with_a_forked_process(tmp_path: Path) -> None:
    slots = slots_of("files", 1, "cpu", tmp_path)
    process = multiprocessing.get_context("fork").Process(target=lambda: slots[1].fill_(9))
    process.start()
    process.join(60)
    assert (slots[1] == 9).all() and not slots[0].any()


def test_all_slots_are_free_again_after_an_epoch(tmp_path: Path) -> None:
    loader = loader_of(config_of("torch", workers=1), numbered("files", 31, tmp_path))
    for _ in range(2):
        assert len(list(loader.epoch(0))) == 8
        assert sorted(loader._free) == list(range(workers.PREFETCH + 2))
    loader.close()


@pytest.mark.parametrize("count", [1, 2])  # one of them is not the default, the number of cores
def test_close_ends_all_worker_processes(tmp_path: Path, count: int) -> None:
    previous = set(psutil.Process().children(recursive=True))
    loader = loader_of(config_of("torch", workers=count), numbered("files", 31, tmp_path))
    next(loader.epoch(0))
    assert len(set(psutil.Process().children(recursive=True)) - previous) == count
    loader.close()
    assert not set(psutil.Process().children(recursive=True)) - previous
    loader.close()


def test_workers_ignore_the_signals_that_stop_a_run(tmp_path: Path) -> None:
    loader = loader_of(config_of("torch", workers=2), numbered("files", 31, tmp_path))
    batches = loader.epoch(0)
    next(batches)
    for worker in psutil.Process().children():
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            worker.send_signal(number)
    assert len(list(batches)) == 7
    loader.close()


def test_a_worker_that_raises_shows_its_own_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect in the decoder")

    monkeypatch.setattr(decode, "load", broken)
    loader = loader_of(config_of("torch", workers=1), numbered("files", 9, tmp_path))
    with pytest.raises(ZeroDivisionError, match=r"(?s)in broken.*a defect in the decoder"):
        list(loader.epoch(0))
    loader.close()


def test_a_worker_that_dies_ends_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Samples, "__getitem__", lambda self, request: os.kill(os.getpid(), signal.SIGKILL))
    loader = loader_of(config_of("torch", workers=1), numbered("files", 9, tmp_path))
    with pytest.raises(Failure, match="worker process of loader torch ended by signal SIGKILL"):
        list(loader.epoch(0))
    loader.close()


FATAL = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]


@pytest.mark.parametrize("number", FATAL, ids=[number.name for number in FATAL])
def test_a_worker_that_dies_between_batches_raises_only_in_the_loader(number: signal.Signals, tmp_path: Path) -> None:
    """torch's own handler would raise anywhere in the main thread when SIGCHLD arrives."""
    handler = signal.getsignal(signal.SIGCHLD)
    loader = loader_of(config_of("torch", workers=2, batch_size=1), numbered("files", 31, tmp_path))
    assert signal.getsignal(signal.SIGCHLD) is handler
    batches = loader.epoch(0)
    next(batches)
    worker = workers_of(loader._reader)[0]
    os.kill(worker.pid, number)
    worker.join(60)  # the signal arrives now, outside of the loader
    with pytest.raises(Failure, match=rf"worker process of loader torch ended by signal {number.name}.*lack of memory"):
        list(batches)
    loader.close()


@pytest.mark.parametrize("stopping", [True, False])
def test_a_stopped_worker_does_not_block_training(
    stopping: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STOPPED_S", 300.0 if stopping else 2.0)
    loader = loader_of(config_of("torch", workers=1, batch_size=1), numbered("files", 31, tmp_path))
    batches = loader.epoch(0)
    next(batches)
    (worker,) = workers_of(loader._reader)
    os.kill(worker.pid, signal.SIGSTOP)
    loader.stop_requested = lambda: stopping
    with pytest.raises(Failure, match=rf"worker process of loader torch \(pid {worker.pid}\) is suspended"):
        list(batches)
    loader.close()
    assert not worker.is_alive()


def test_a_worker_that_does_not_respond_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_S", 2.0)
    monkeypatch.setattr(decode, "load", lambda *_: time.sleep(3600))
    loader = loader_of(config_of("torch", workers=1), numbered("files", 9, tmp_path))
    with pytest.raises(Failure, match="has not delivered a batch for 2 s"):
        list(loader.epoch(0))
    loader.close()


FEW_FILES = """
import resource, sys
from distdl.cli import __main__ as cli  # later imports need open files too
import distdl.training.session, distdl.data.loaders.workers
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), 4096))
data = ["--data.loader", "torch", "--data.workers", "16", "--progress", "none", "--out", sys.argv[2]]
sys.exit(cli.main(["train", "--profile", "digits", "--max-steps", "9", *data]))
"""


@pytest.mark.parametrize("files", [24, 40])
def test_too_many_open_files_are_one_line(files: int, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", FEW_FILES, str(files), str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    assert f"error: too many open files: this process may have {files}; raise it with ulimit -n" in done.stderr
    assert "Traceback" not in done.stderr


ORPHANS = """
import os, signal, sys
from distdl.core.config import Config, DataConfig
from distdl.data.sets.load import load
from distdl.data.loaders import make_loader
from distdl.runtime.torch_private import workers_of
from distdl.runtime.world import World
config = Config(data=DataConfig(loader="torch", workers=2))
dataset = load(config.data)
loader = make_loader(config, dataset, dataset.train, World(), training=True)
next(loader.epoch(0))
print(*(worker.pid for worker in workers_of(loader._reader)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_the_trainer_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, check=False)
    workers = [int(word) for word in done.stdout.split()]
    assert len(workers) == 2, done.stderr
    deadline = time.monotonic() + 15  # DataLoader's workers check for their parent every 5 s
    while any(psutil.pid_exists(worker) and _runs(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


UNCLOSED = """
import sys
from pathlib import Path
from distdl.core.config import Config, DataConfig
from distdl.data.loaders import make_loader
from distdl.runtime.world import World
from numbered_sets import numbered
dataset = numbered("files", 40, Path(sys.argv[2]))
config = Config(data=DataConfig(loader=sys.argv[1], workers=2, batch_size=2))
loader = make_loader(config, dataset, dataset.train, World(), training=True)
batches = loader.epoch(0)
next(batches)
raise ValueError("an error of the caller")
"""


@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_an_unclosed_loader_does_not_delay_the_end_of_its_process(loader: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(SUPPORT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED, loader, tmp_path],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1 and done.stderr.rstrip().endswith("ValueError: an error of the caller")


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_memory_does_not_grow_over_epochs(loader: str, data_root: Path) -> None:
    config = Config(data=DataConfig(name="caltech101", root=data_root, loader=loader, workers=2, batch_size=32))
    dataset = load(config.data)
    previous = set(psutil.Process().children())
    built_loader = make_loader(config, dataset, dataset.train, World(), training=True)
    seen = []
    for epoch in range(4):
        assert sum(batch.count for batch in built_loader.epoch(epoch)) == len(dataset.train)
        processes = [psutil.Process(), *(set(psutil.Process().children()) - previous)]
        seen.append(sum(process.memory_full_info().pss for process in processes) / 2**20)
    built_loader.close()
    # The first epoch fills buffers and imports decoders; the next three add less than 1.1 batches of 19 MiB.
    assert max(seen[1:]) < seen[0] * 1.1 + 19


@pytest.mark.parametrize(
    ("stopped", "turns", "message"),
    [
        ([True] * 9, 4, "is suspended"),
        ([True, True, True, False] + [True] * 9, 8, "is suspended"),
        ([False] * 20, 10, "has not delivered a batch for 10 s"),
    ],
)
def test_a_worker_is_given_up_after_consecutive_turns(
    stopped: list[bool], turns: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns of 1 s; 4 of them for a suspended worker, 10 for one that does not respond."""
    loader = loader_of(config_of("torch", workers=1, batch_size=1), numbered("files", 9, tmp_path))
    states = iter(stopped)
    monkeypatch.setattr(workers, "TURN_S", 1.0)
    monkeypatch.setattr(workers, "STOPPED_S", 4.0)
    monkeypatch.setattr(workers, "ANSWER_S", 10.0)
    monkeypatch.setattr(workers, "try_next", lambda *_: (False, None))
    monkeypatch.setattr(workers, "_is_stopped", lambda _: next(states))
    with pytest.raises(Failure, match=message):
        loader._wait()
    assert len(stopped) - len(list(states)) == turns
    loader.close()


class Failing:
    """A DataLoader whose iteration fails. It has no workers."""

    _iterator = None

    def __init__(self, message: str) -> None:
        self.message = message

    def __iter__(self) -> Iterator[None]:
        raise RuntimeError(self.message)


@pytest.mark.parametrize("message", ["Too many open files. Communication", "received 0 items of ancdata"])
def test_errors_of_torch_about_open_files_are_one_line(message: str, tmp_path: Path) -> None:
    loader = loader_of(config_of("torch", workers=1, batch_size=1), numbered("files", 9, tmp_path))
    loader._reader = Failing(message)
    with pytest.raises(Failure, match="raise it with ulimit -n"):
        next(loader._chunks())


def test_other_errors_of_torch_keep_their_traceback(tmp_path: Path) -> None:
    loader = loader_of(config_of("torch", workers=1, batch_size=1), numbered("files", 9, tmp_path))
    loader._reader = Failing("another error")
    with pytest.raises(RuntimeError, match="another error"):
        next(loader._chunks())

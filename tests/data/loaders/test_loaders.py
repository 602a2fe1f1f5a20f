"""Every loader by the same tests: one row of LOADERS each."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from distdl.core.config import AugmentConfig, ComputeConfig, Config, DataConfig, OptimConfig
from distdl.core.errors import Failure, UserError
from distdl.data.dataset import Batch, DataSet, ResidentSplit
from distdl.data.loaders import choose, make_loader, order, workers
from distdl.data.loaders.base import Loader
from distdl.data.loaders.samples import Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.sets.load import load
from distdl.data.storage import decode
from distdl.runtime.torch_private import workers_of
from distdl.runtime.world import World
from distdl.telemetry.clock import Clock
from numbered_sets import numbered
from repository import SUPPORT

ALL = AugmentConfig(flip=0.5, crop=3, color_jitter=0.5, rotation=20, mixup=0.2, cutmix=1.0)


@dataclass(frozen=True)
class Case:
    """A loader, how many worker processes it has, and where its samples lie."""

    loader: str
    kinds: tuple[str, ...]
    workers: int = 0
    needs: str = ""
    real: bool = True
    """Delivers the samples' own pixels."""


LOADERS = [
    Case("resident", ("memory", "files")),
    Case("torch", ("memory", "files")),
    Case("torch", ("memory", "files"), workers=2),
    Case("dali", ("files",), workers=2, needs="nvidia.dali"),
    Case("synthetic", ("memory", "files"), real=False),
]
ROWS = [pytest.param(case, kind, id=f"{case.loader}-{case.workers}-{kind}") for case in LOADERS for kind in case.kinds]
FILES = [row for row in ROWS if row.values[1] == "files" and row.values[0].real]
each_loader = pytest.mark.parametrize(("case", "kind"), ROWS)
each_that_reads_files = pytest.mark.parametrize(("case", "kind"), FILES)


def config_of(case: Case, **data: object) -> Config:
    if case.needs:
        pytest.importorskip(case.needs)
    return Config(seed=3, data=DataConfig(**{"loader": case.loader, "workers": case.workers, "batch_size": 4, **data}))


def loader_of(config: Config, dataset: DataSet, rank: int = 0, world: int = 1, training: bool = True) -> Loader:
    return make_loader(config, dataset, dataset.train, World(rank=rank, size=world), training=training)


def run(loader: Loader, epoch: int, start: int = 0) -> list[Batch]:
    try:
        return [replace(batch, images=batch.images.clone()) for batch in loader.epoch(epoch, start)]
    finally:
        loader.close()


@each_loader
@pytest.mark.parametrize(("world", "start"), [(1, 0), (2, 3), (3, 12), (3, 29)])
def test_the_samples_are_those_of_the_order(case: Case, kind: str, world: int, start: int, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case)
    sequence = order.order(3, 5, 31)
    seen, lengths = [], set()
    for rank in range(world):
        loader = loader_of(config, dataset, rank, world)
        assert len(loader) == order.steps(31, 4 * world)
        batches = run(loader, 5, start)
        steps = list(order.share(sequence, rank, world, 4 * world, start))
        assert [batch.count for batch in batches] == [step.count for step in steps]
        for batch, step in zip(batches, steps, strict=True):
            assert batch.labels.tolist() == step.indices.tolist()
            assert batch.weight == step.count * world / step.total
            assert batch.total == step.total
            assert batch.indices.tolist() == step.indices[: step.count].tolist()
            assert batch.images.shape == (len(step.indices), 3, 24, 24)
        seen += [label for batch in batches for label in batch.labels[: batch.count].tolist()]
        lengths.add(len(batches))
    assert sorted(seen) == sorted(sequence[start:].tolist())
    assert len(lengths) == 1


@each_loader
def test_a_start_in_the_epoch_is_the_tail_of_the_whole(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case, augment=ALL)
    complete, tail = (run(loader_of(config, dataset), 2, start) for start in (0, 12))
    for first, second in zip(complete[3:], tail, strict=True):
        assert torch.equal(first.labels, second.labels)
        assert torch.equal(first.images, second.images)


@each_loader
def test_every_sample_is_seen_once_when_the_world_grows_on_the_way(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case)
    seen: list[int] = []
    for rank in range(2):
        for batch in run(loader_of(config, dataset, rank, 2), 0)[:2]:
            seen += batch.labels[: batch.count].tolist()
    for rank in range(3):
        for batch in run(loader_of(config, dataset, rank, 3), 0, start=16):
            seen += batch.labels[: batch.count].tolist()
    assert sorted(seen) == list(range(31))


@each_loader
def test_an_abandoned_epoch_leaves_nothing_in_the_next(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case)
    loader = loader_of(config, dataset)
    next(loader.epoch(0))
    assert [label for batch in run(loader, 1) for label in batch.labels.tolist()] == order.order(3, 1, 31).tolist()


@each_loader
def test_evaluation_takes_each_sample_once_as_it_lies(case: Case, kind: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 31, tmp_path)
    config = config_of(case, augment=ALL, drop_last=True, eval_batch_size=5)
    seen = []
    for rank in range(3):
        batches = run(loader_of(config, dataset, rank, 3, training=False), 0)
        assert len(batches) == 3
        seen += [label for batch in batches for label in batch.labels[: batch.count].tolist()]
    assert sorted(seen) == list(range(31))


@each_loader
def test_drop_last_leaves_out_what_does_not_fill_a_step(case: Case, kind: str, tmp_path: Path) -> None:
    batches = run(loader_of(config_of(case, drop_last=True), numbered(kind, 31, tmp_path), 1, 2), 0)
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]


@each_loader
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_images_come_in_the_runs_precision_and_layout(
    case: Case, kind: str, precision: str, channels_last: bool, tmp_path: Path
) -> None:
    config = config_of(case)
    config = replace(config, compute=ComputeConfig(precision=precision, channels_last=channels_last))
    images = run(loader_of(config, numbered(kind, 8, tmp_path)), 0)[0].images
    assert images.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("kind", ["memory", "files"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("world", [1, 2])
def test_loaders_deliver_the_same_pixels(kind: str, training: bool, world: int, tmp_path: Path) -> None:
    dataset = numbered(kind, 31, tmp_path)
    first = None
    for case in (case for case in LOADERS if case.real and kind in case.kinds):
        config = config_of(case, augment=ALL)
        batches = run(loader_of(config, dataset, world - 1, world, training=training), 4)
        first = first or batches
        for expected, actual in zip(first, batches, strict=True):
            assert torch.equal(expected.labels, actual.labels)
            assert torch.equal(expected.images, actual.images)


def test_a_sample_is_changed_alike_on_any_rank(tmp_path: Path) -> None:
    dataset = numbered("files", 31, tmp_path)
    config = config_of(
        LOADERS[1], augment=AugmentConfig(flip=0.5, random_resized_crop=True, color_jitter=1, rotation=9)
    )
    seen = []
    for world in (1, 3):
        pixels = {}
        for rank in range(world):
            for batch in run(loader_of(config, dataset, rank, world), 6):
                pixels |= dict(zip(batch.labels.tolist(), batch.images, strict=True))
        seen.append(pixels)
    # Batches of another size may take another vector path: the last bit of a float is not promised.
    assert all(torch.allclose(seen[0][label], seen[1][label], atol=1e-5) for label in range(31))


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "caltech101", "gtsrb", "omniglot"])
def test_labels_of_real_sets_agree_over_loaders(name: str, data_root: Path) -> None:
    seen = []
    kind = "memory" if name in ("digits", "mnist", "cifar10") else "files"
    for case in (case for case in LOADERS if kind in case.kinds):
        config = config_of(case, name=name, root=data_root, limit=60, image_size=32, normalize="none", batch_size=16)
        dataset = load(config.data)
        batches = run(loader_of(config, dataset, 1, 2), 1)
        assert all(batch.images.shape[1:] == (dataset.channels, 32, 32) for batch in batches)
        seen.append([batch.labels.tolist() for batch in batches])
    assert all(labels == seen[0] for labels in seen)


@each_that_reads_files
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "gone"])
def test_a_bad_file_ends_the_run_with_its_name(case: Case, kind: str, damage: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 9, tmp_path)
    spoil(dataset.train.files[4], damage)
    with pytest.raises(UserError, match=r"004\.jpg.*--data.on-error skip"):
        run(loader_of(config_of(case), dataset), 0)


@each_that_reads_files
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "gone"])
def test_a_bad_file_is_replaced_by_its_neighbour_and_listed(case: Case, kind: str, damage: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 9, tmp_path)
    spoil(dataset.train.files[4], damage)
    spoil(dataset.train.files[8], "text")
    loader = loader_of(config_of(case, on_error="skip"), dataset)
    for epoch in range(2):
        batches = [(batch.labels.tolist(), batch.indices.tolist()) for batch in loader.epoch(epoch)]
        labels = [label for batch, _ in batches for label in batch]
        assert labels == [index for _, indices in batches for index in indices]
        expected = [{4: 5, 8: 0}.get(index, index) for index in order.order(3, epoch, 9).tolist()]
        assert labels == expected
    loader.close()
    assert len(loader.skipped) == 2
    assert any("004.jpg" in line and "005.jpg is used instead" in line for line in loader.skipped)


@each_that_reads_files
def test_a_set_of_nothing_but_bad_files_is_no_set(case: Case, kind: str, tmp_path: Path) -> None:
    dataset = numbered(kind, 5, tmp_path)
    for file in dataset.train.files:
        spoil(file, "text")
    with pytest.raises(UserError, match="5 consecutive files cannot be read"):
        run(loader_of(config_of(case, on_error="skip"), dataset), 0)


def spoil(file: Path, damage: str) -> None:
    match damage:
        case "truncated":
            file.write_bytes(file.read_bytes()[:400])
        case "text":
            file.write_text("not an image")
        case "empty":
            file.write_bytes(b"")
        case "gone":
            file.unlink()


@each_loader
def test_fewer_samples_than_ranks_are_refused(case: Case, kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 samples for 3 ranks"):
        loader_of(config_of(case), numbered(kind, 2, tmp_path), 0, 3)


@each_loader
def test_fewer_samples_than_a_dropped_last_batch_are_refused(case: Case, kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="drop_last"):
        loader_of(config_of(case, drop_last=True), numbered(kind, 7, tmp_path), 0, 2)


@each_loader
def test_labels_out_of_range_are_refused(case: Case, kind: str, tmp_path: Path) -> None:
    dataset = replace(numbered(kind, 9, tmp_path), classes=("a", "b"))
    with pytest.raises(UserError, match="label 2 of sample 2 is out of range"):
        loader_of(config_of(case), dataset)


def test_resident_refuses_to_cut_windows_from_files_decoded_once(tmp_path: Path) -> None:
    config = config_of(LOADERS[0], augment=AugmentConfig(random_resized_crop=True))
    with pytest.raises(UserError, match="random_resized_crop"):
        loader_of(config, numbered("files", 9, tmp_path))


def test_auto_says_why(tmp_path: Path) -> None:
    def chosen(dataset: DataSet) -> tuple[str, str]:
        spec = LoaderSpec(config=Config(), dataset=dataset, split=dataset.train, world=World(), training=True)
        return choose(spec)

    memory, files = (numbered(kind, 9, tmp_path) for kind in ("memory", "files"))
    assert chosen(memory)[0] == "resident" and "free" in chosen(memory)[1]
    assert chosen(files)[0] == "torch" and "files" in chosen(files)[1]
    huge = ResidentSplit(
        images=np.broadcast_to(np.zeros(1, np.uint8), (10**9, 224, 224, 3)), labels=np.zeros(9, np.int64)
    )
    assert chosen(replace(memory, train=huge))[0] == "torch"
    assert chosen(load(DataConfig(name="synthetic")))[0] == "synthetic"


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 1), (5, 2)])
def test_a_global_batch_below_the_ranks_is_refused(batch: int, accumulate: int, tmp_path: Path) -> None:
    config = replace(
        config_of(LOADERS[0], batch_size=None, global_batch=batch), optim=OptimConfig(accumulate=accumulate)
    )
    with pytest.raises(
        UserError, match=rf"data.global_batch {batch} is too small for 3 ranks.* at least {3 * accumulate}"
    ):
        loader_of(config, numbered("memory", 31, tmp_path), 0, 3)


@each_loader
def test_a_global_batch_is_divided_among_the_ranks(case: Case, kind: str, tmp_path: Path) -> None:
    dataset, config = numbered(kind, 31, tmp_path), config_of(case, batch_size=None, global_batch=10)
    ranks = [run(loader_of(config, dataset, rank, 3), 0) for rank in range(3)]
    assert [[batch.count for batch in batches] for batches in ranks] == [[4, 3, 3, 3], [3, 2, 2, 2], [3, 2, 2, 2]]
    sequence = order.order(3, 0, 31)
    for step, batches in enumerate(zip(*ranks, strict=True)):
        assert np.concatenate([batch.indices for batch in batches]).tolist() == sequence[: batches[0].total].tolist()
        sequence = sequence[batches[0].total :]
        assert sum(batch.weight for batch in batches) == pytest.approx(3), step


def test_ten_crops_are_delivered_for_the_test_alone(tmp_path: Path) -> None:
    dataset = numbered("files", 9, tmp_path)
    for case in (LOADERS[0], LOADERS[1]):
        config = config_of(case, ten_crop=True)
        for split, shape in ((dataset.test, (7, 10, 3, 24, 24)), (dataset.train, (8, 3, 24, 24))):
            loader = make_loader(config, dataset, split, World(), training=False)
            assert next(loader.epoch(0)).images.shape == shape
            loader.close()


@each_loader
def test_time_on_the_device_is_taken_from_that_of_waiting(case: Case, kind: str, tmp_path: Path) -> None:
    loader = loader_of(config_of(case, augment=ALL), numbered(kind, 31, tmp_path))
    loader.clock = Clock()
    start = time.perf_counter()
    for _ in loader.clock.over("data", loader.epoch(0)):
        pass
    seconds = loader.clock.read()
    assert seconds["data"] >= 0
    assert (seconds["transfer"] > 0) == case.real
    assert seconds["data"] + seconds["transfer"] <= time.perf_counter() - start
    loader.close()


def test_closing_leaves_no_process_behind(tmp_path: Path) -> None:
    previous = set(psutil.Process().children(recursive=True))
    loader = loader_of(config_of(Case("torch", (), workers=2)), numbered("files", 31, tmp_path))
    next(loader.epoch(0))
    assert len(set(psutil.Process().children(recursive=True)) - previous) == 2
    loader.close()
    assert not set(psutil.Process().children(recursive=True)) - previous
    loader.close()


def test_workers_do_not_heed_the_signals_that_stop_a_run(tmp_path: Path) -> None:
    loader = loader_of(config_of(Case("torch", (), workers=2)), numbered("files", 31, tmp_path))
    batches = loader.epoch(0)
    next(batches)
    for worker in psutil.Process().children():
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            worker.send_signal(number)
    assert len(list(batches)) == 7
    loader.close()


def test_a_worker_that_raises_shows_its_own_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault in the decoder")

    monkeypatch.setattr(decode, "load", broken)
    loader = loader_of(config_of(Case("torch", (), workers=1)), numbered("files", 9, tmp_path))
    with pytest.raises(ZeroDivisionError, match=r"(?s)in broken.*a fault in the decoder"):
        list(loader.epoch(0))
    loader.close()


def test_a_worker_that_dies_ends_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Samples, "__getitem__", lambda self, request: os.kill(os.getpid(), signal.SIGKILL))
    loader = loader_of(config_of(Case("torch", (), workers=1)), numbered("files", 9, tmp_path))
    with pytest.raises(Failure, match="worker process of loader torch ended by signal SIGKILL"):
        list(loader.epoch(0))
    loader.close()


FATAL = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]


@pytest.mark.parametrize("number", FATAL, ids=[number.name for number in FATAL])
def test_a_worker_that_dies_between_batches_raises_nowhere_else(number: signal.Signals, tmp_path: Path) -> None:
    """torch's own handler raises in whatever the main thread is doing when SIGCHLD arrives."""
    handler = signal.getsignal(signal.SIGCHLD)
    loader = loader_of(config_of(Case("torch", (), workers=2), batch_size=1), numbered("files", 31, tmp_path))
    assert signal.getsignal(signal.SIGCHLD) is handler
    batches = loader.epoch(0)
    next(batches)
    worker = workers_of(loader._reader)[0]
    os.kill(worker.pid, number)
    worker.join(60)  # the signal has arrived here, outside of the loader
    with pytest.raises(Failure, match=rf"worker process of loader torch ended by signal {number.name}.*lack of memory"):
        list(batches)
    loader.close()


@pytest.mark.parametrize("asked", [True, False])
def test_a_stopped_worker_does_not_hold_the_training(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STOPPED_S", 300.0 if asked else 2.0)
    loader = loader_of(config_of(Case("torch", (), workers=1), batch_size=1), numbered("files", 31, tmp_path))
    batches = loader.epoch(0)
    next(batches)
    (worker,) = workers_of(loader._reader)
    os.kill(worker.pid, signal.SIGSTOP)
    loader.stop_requested = lambda: asked
    with pytest.raises(Failure, match=rf"worker process of loader torch \(pid {worker.pid}\) is suspended"):
        list(batches)
    loader.close()
    assert not worker.is_alive()


def test_a_worker_that_does_not_answer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_S", 2.0)
    monkeypatch.setattr(decode, "load", lambda *_: time.sleep(3600))
    loader = loader_of(config_of(Case("torch", (), workers=1)), numbered("files", 9, tmp_path))
    with pytest.raises(Failure, match="has not delivered a batch for 2 s"):
        list(loader.epoch(0))
    loader.close()


FEW_FILES = """
import resource, sys
from distdl.cli import __main__ as cli  # whatever is imported later needs files, too
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
    deadline = time.monotonic() + 15  # DataLoader's workers look for their parent every 5 s
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
raise ValueError("a fault of the caller")
"""


@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_a_loader_that_nobody_closed_does_not_hold_its_process_up(loader: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(SUPPORT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED, loader, tmp_path],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1 and done.stderr.rstrip().endswith("ValueError: a fault of the caller")


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_memory_stays_flat_over_epochs(loader: str, data_root: Path) -> None:
    config = Config(data=DataConfig(name="caltech101", root=data_root, loader=loader, workers=2, batch_size=32))
    dataset = load(config.data)
    previous = set(psutil.Process().children())
    made = make_loader(config, dataset, dataset.train, World(), training=True)
    seen = []
    for epoch in range(4):
        assert sum(batch.count for batch in made.epoch(epoch)) == len(dataset.train)
        processes = [psutil.Process(), *(set(psutil.Process().children()) - previous)]
        seen.append(sum(process.memory_full_info().pss for process in processes) / 2**20)
    made.close()
    # The first epoch fills buffers and imports decoders; the three after it add less than a batch (19 MiB) and a tenth.
    assert max(seen[1:]) < seen[0] * 1.1 + 19

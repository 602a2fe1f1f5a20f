"""Overhead of the trainer: throughput of distdl compared with a plain loop, Lightning, accelerate and timm.

All use the same network, data, optimizer and batch size in one process, interleaved. The plain loop and distdl read
tensors in memory; the others get a DataLoader over the same tensors that fetches a whole batch by one index, which is
their fastest input. A second part measures only the clock.

    python benchmarks/overhead.py [--repeats 5] [--threads 2]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import interleaved, markdown_table, ratios, spread, write_result
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.rundir import RunDir
from distdl.data.dataset import DataSet
from distdl.data.sets.load import load
from distdl.models import build as zoo
from distdl.strategies.single import Single
from distdl.telemetry.clock import Clock
from distdl.training.session import default_callbacks
from distdl.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one data set."""

    name: str
    argv: tuple[str, ...]
    steps: int


CASES = (
    Case(
        name="digits CNN, batch 32",
        argv=("--data.batch-size", "32", "--optim.name", "sgd", "--optim.weight-decay", "0"),
        steps=400,
    ),
    Case(
        name="MNIST CNN, batch 64",
        argv=("--profile", "mnist-softmax", "--model.name", "mnist-cnn", "--data.batch-size", "64"),
        steps=60,
    ),
    Case(
        name="ResNet-18, 64 px, batch 32",
        argv=(
            *("--profile", "mnist-softmax", "--model.name", "resnet18", "--data.loader", "synthetic"),
            *("--data.image-size", "64", "--data.name", "cifar10", "--data.batch-size", "32"),
        ),
        steps=12,
    ),
)


def configure(case: Case, out: Path) -> Config:
    """SGD with a constant learning rate, which all loops support."""
    argv = [*case.argv, "--schedule.name", "constant", "--optim.momentum", "0.9", "--optim.lr", "0.01"]
    argv += ["--max-steps", str(case.steps), "--epochs", "1000", "--evaluate-every", "100000"]
    argv += ["--checkpoint.every-epochs", "0", "--data.drop-last", "--out", str(out), "--progress", "plain"]
    return from_command_line(argv, strategy="single")


class Tensors:
    """Training images of a data set as normalized floats in memory."""

    def __init__(self, config: Config, dataset: DataSet) -> None:
        size = config.data.image_size or dataset.image_size
        self.classes, self.channels, self.size = len(dataset.classes), dataset.channels, size
        if config.data.loader == "synthetic":
            self.images = torch.randn(512, self.channels, size, size)
            self.labels = torch.randint(self.classes, (512,))
        else:
            self.images = torch.from_numpy(dataset.train.images).permute(0, 3, 1, 2).float().div(255).contiguous()
            self.labels = torch.from_numpy(dataset.train.labels)


class Batched(Dataset):
    """Data set indexed by a list, so that a batch is one gather."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors.labels)

    def __getitem__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tensors.images[index], self.tensors.labels[index]


def loader(tensors: Tensors, batch: int) -> DataLoader:
    data = Batched(tensors)
    sampler = BatchSampler(RandomSampler(data), batch, drop_last=True)
    return DataLoader(data, sampler=sampler, batch_size=None)


def network(config: Config, tensors: Tensors) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = zoo.build(config.model, classes=tensors.classes, channels=tensors.channels, image_size=tensors.size)
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)


def plain(config: Config, tensors: Tensors) -> float:
    """A minimal manual training loop."""
    model, optimizer = network(config, tensors)
    model.train()
    done, batch = 0, config.data.rank_samples(1)
    start = time.perf_counter()
    while done < config.max_steps:
        order = torch.randperm(len(tensors.labels))
        for first in range(0, len(order) - batch + 1, batch):
            index = order[first : first + batch]
            loss = F.cross_entropy(model(tensors.images[index]), tensors.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == config.max_steps:
                break
    return done * batch / (time.perf_counter() - start)


def by_distdl(config: Config, dataset: DataSet) -> float:
    """distdl's trainer with the display, clock, metrics and checkpoints of `distdl.train`."""
    from rich.console import Console

    strategy = Single(config)
    strategy.setup()
    run = RunDir(config.out)
    trainer = Trainer(config, strategy, dataset, run, default_callbacks(config, Console(quiet=True)))
    run.enter(config, strategy="single")
    try:
        trainer.fit()
        return trainer.result("completed")["images_per_s"]
    finally:
        trainer.close()
        trainer.stop.close()
        run.close()


def lightning(config: Config, tensors: Tensors) -> float:
    """Lightning's Trainer without logger, checkpoints, progress bar and validation."""
    import logging
    import warnings

    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    model, optimizer = network(config, tensors)
    clock: dict[str, float] = {}

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer

        def on_train_start(self) -> None:
            clock["start"] = time.perf_counter()

        def on_train_end(self) -> None:
            clock["end"] = time.perf_counter()

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=config.max_steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), loader(tensors, config.data.rank_samples(1)))
    return config.max_steps * config.data.rank_samples(1) / (clock["end"] - clock["start"])


def accelerate(config: Config, tensors: Tensors) -> float:
    """The same loop with accelerate. Only the model is wrapped: it cannot wrap a loader that returns whole batches."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(*network(config, tensors))
    batches = loader(tensors, config.data.rank_samples(1))
    return _loop(config, batches, lambda images, labels: _step(model, optimizer, images, labels, accelerator.backward))


def timm(config: Config, tensors: Tensors) -> float:
    """The step of timm's training script with its gradient scaler, meter and scheduler, without logging."""
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter

    model, optimizer = network(config, tensors)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=10)
    meter, updates = AverageMeter(), 0

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        nonlocal updates
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        updates += 1
        meter.update(loss.item(), images.size(0))
        scheduler.step_update(num_updates=updates, metric=meter.avg)

    return _loop(config, loader(tensors, config.data.rank_samples(1)), step)


def _step(model, optimizer, images, labels, backward: Callable[[torch.Tensor], None]) -> None:
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    backward(loss)
    optimizer.step()


def _loop(config: Config, batches: DataLoader, step: Callable[[torch.Tensor, torch.Tensor], None]) -> float:
    def forever() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from batches

    start = time.perf_counter()
    for done, (images, labels) in enumerate(forever(), start=1):
        step(images, labels)
        if done == config.max_steps:
            return done * len(labels) / (time.perf_counter() - start)
    raise AssertionError


def clock_cost(steps: int = 100_000) -> float:
    """Measure the clock's cost in seconds per step: five phases and one wait for an item."""
    clock = Clock()
    start = time.perf_counter()
    for _ in clock.over("data", range(steps)):
        for phase in ("transfer", "forward", "backward", "exchange", "update"):
            with clock(phase):
                pass
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    clock_s = statistics.median(clock_cost() for _ in range(5))
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            config = configure(case, Path(folder) / "run")
            dataset = load(config.data)
            tensors = Tensors(config, dataset)
            subjects = {
                "plain loop": lambda c=config, t=tensors: plain(c, t),
                "distdl": lambda c=config, d=dataset: by_distdl(c, d),
                "Lightning": lambda c=config, t=tensors: lightning(c, t),
                "accelerate": lambda c=config, t=tensors: accelerate(c, t),
                "timm": lambda c=config, t=tensors: timm(c, t),
            }
            plain(config, tensors)  # warm-up
            figures = interleaved(subjects, options.repeats)
            relative = ratios(figures, to="plain loop")
            step_s = config.data.rank_samples(1) / statistics.median(figures["distdl"])
            for name, values in figures.items():
                rows.append([case.name, name, spread(values, 0), spread(relative[name])])
            print(case.name, {name: spread(values) for name, values in relative.items()}, flush=True)
            rows.append([case.name, "clock's own cost", f"{clock_s * 1e6:.1f} us per step", f"{clock_s / step_s:.4f}"])
    table = markdown_table(["case", "loop", "images/s: median (range)", "over the plain loop"], rows)
    text = f"{options.repeats} rounds, interleaved, {options.threads} threads, fp32, one process.\n\n{table}"
    print(write_result("overhead", "cpu", text, "torch", "distdl", "lightning", "accelerate", "timm"))


if __name__ == "__main__":
    main()

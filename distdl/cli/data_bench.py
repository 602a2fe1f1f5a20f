"""`distdl data bench NAME`: images per second by loader and by stage, and the bottleneck of the input."""

import json as json_format
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.table import Table

from distdl.core.conditions import require_keys
from distdl.core.config import AugmentConfig, ComponentOptions, Config, Count, DataConfig, FilePath, Positive, Timeout
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError, reason
from distdl.core.registry import NO_OPTIONS
from distdl.core.result import checked_result
from distdl.core.run_files import RESULT
from distdl.data.dataset import DataSet, EncodedSplit
from distdl.data.loaders import make_loader
from distdl.data.loaders.bench import STAGES, StageRates, diagnose, measure, of_run
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.sets.load import load
from distdl.runtime.cores import cores
from distdl.runtime.world import World

USUAL = AugmentConfig(random_resized_crop=True, flip=0.5)


def bench(
    name: Annotated[str, tyro.conf.Positional],
    *,
    root: FilePath | None = None,
    batch_size: Positive = 64,
    image_size: Count = 0,
    seconds: Timeout = 5.0,
    run: FilePath | None = None,
    augment: AugmentConfig = USUAL,
    options: ComponentOptions = NO_OPTIONS,
    json: bool = False,
) -> None:
    """Measure the throughput of a data set by stage and by loader, and name the bottleneck.

    Args:
        name: a set by name (distdl data list), or the path of an image folder, of shards or of an archive.
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
        batch_size: samples per batch.
        image_size: height and width in pixels; 0: the data set's default.
        seconds: length of each loader's measurement.
        run: folder of a completed run on this data set, whose network's speed is shown too.
        augment: augmentation of the samples.
        options: settings of a data set of another package, dataset.NAME=VALUE.
        json: print a JSON object instead of the tables.
    """
    console = PlainConsole(stderr=json)
    require_keys(options, ["dataset"])
    config = DataConfig(name=name, root=root, image_size=image_size, on_error="skip")
    dataset = load(config, options.get("dataset"))
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    data = DataConfig(
        name=name, root=root, batch_size=batch_size, image_size=image_size, augment=augment, on_error="skip"
    )
    world = World(device=device)
    spec = LoaderSpec(config=Config(data=data), dataset=dataset, split=dataset.train, world=world, training=True)
    with console.status("stages") as status:
        rates = measure(spec, cores(), lambda stage: status.update(f"stage {stage}"))
        if run:
            rates = replace(rates, network=_network(run))
        table = {}
        for loader, workers in _choices(dataset, augment, cores()):
            status.update(f"loader {loader}, {workers} workers or threads")
            table[loader, workers] = _rate(spec, loader, workers, seconds)
    fastest = max(table, key=lambda key: table[key])
    stage, sentence = diagnose(rates, fastest[0])
    if json:
        rows = [{"loader": key[0], "workers": key[1], "images_per_s": rate} for key, rate in table.items()]
        print(json_format.dumps({"rates": vars(rates), "loaders": rows, "bottleneck": stage, "remedy": sentence}))
        return
    console.print(_loaders(table), _stages(rates))
    console.print(f"fastest: --data.loader {fastest[0]} --data.workers {fastest[1]}")
    console.print(f"bottleneck: {sentence}", soft_wrap=True)


def _network(run: Path) -> float | None:
    result = checked_result(run)
    try:
        return of_run(result)
    except (ArithmeticError, KeyError, TypeError) as error:
        raise UserError(f"--run {run}: {RESULT} has no speed ({reason(error)}): name a completed run") from None


def _choices(dataset: DataSet, augment: AugmentConfig, most: int) -> list[tuple[str, int]]:
    """Loaders that can read the set, each with one worker and with as many as there are cores."""
    files = isinstance(dataset.train, EncodedSplit)
    workers = sorted({1, most})
    choices = [("torch", count) for count in workers]
    if files and find_spec("nvidia") and find_spec("nvidia.dali"):
        choices += [("dali", count) for count in workers]
    if not (files and augment.random_resized_crop):
        choices.append(("resident", 0))
    return choices


def _rate(spec: LoaderSpec, name: str, workers: int, seconds: float) -> float:
    """Images per second of a loader, after its first batches."""
    data = DataConfig(**(vars(spec.config.data) | {"loader": name, "workers": workers}))
    loader = make_loader(Config(data=data), spec.dataset, spec.split, spec.world, training=True)
    count, start, end, epoch = 0, 0.0, None, 0
    try:
        while end is None or time.perf_counter() < end:
            for number, batch in enumerate(loader.epoch(epoch)):
                if end is None and (number == 2 or epoch):
                    _wait(spec)
                    start = time.perf_counter()
                    end = start + seconds
                elif end is not None:
                    count += batch.count
                    if time.perf_counter() > end:
                        break
            epoch += 1
        _wait(spec)
        return count / (time.perf_counter() - start)
    finally:
        loader.close()


def _wait(spec: LoaderSpec) -> None:
    if spec.world.device.type == "cuda":
        torch.cuda.synchronize()


def _loaders(rates: dict[tuple[str, int], float]) -> Table:
    table = Table(title="images/s by loader", title_justify="left")
    table.add_column("loader")
    table.add_column("workers or threads", justify="right")
    table.add_column("images/s", justify="right")
    for (name, workers), rate in rates.items():
        table.add_row(name, str(workers), f"{rate:,.0f}")
    return table


WHAT = {
    "disk": "reading files, one at a time",
    "decode": "the decoder alone, whole images, one core",
    "augment": "crop and resize, one core",
    "finish": "the rest of the augmentation, normalization",
    "transfer": "host to device",
    "network": "the run's steps, without waiting for data",
}


def _stages(rates: StageRates) -> Table:
    table = Table(title=f"images/s by stage, each measured alone ({rates.cores} cores decode)", title_justify="left")
    table.add_column("stage")
    table.add_column("images/s", justify="right")
    table.add_column("what")
    for stage in STAGES:
        if (rate := getattr(rates, stage)) is not None:
            table.add_row(stage, f"{rate:,.0f}", WHAT[stage])
    return table

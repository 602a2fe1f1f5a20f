"""Images per second of distdl's loaders, of other common loaders and of the decoder only, on real JPEGs.

Random crop to 224 pixels, flip, normalization, batches of 64 float32 images on the CPU, two workers or threads each. A
figure is the mean over several complete epochs after a warm-up epoch; loaders are interleaved. FFCV is not measured,
because building its release needs the headers of OpenCV and libjpeg-turbo.

    python benchmarks/loaders.py [--data-root FOLDER] [--rounds 5] [--sets photographs caltech101 flowers]
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from timing import interleaved, markdown_table, ratios, spread, write_result

from distdl.core.config import AugmentConfig, ComputeConfig, Config, DataConfig
from distdl.data.dataset import DataSet, Loader
from distdl.data.loaders import make_loader
from distdl.data.sets.load import IMAGENET, load
from distdl.data.storage.pack import pack
from distdl.runtime.memory import keep_freed
from distdl.runtime.world import World

BATCH, WORKERS, SIZE = 64, 2, 224
IMAGES = 1000
"""Minimum number of images per figure."""
PIL = "DataLoader, PIL"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["photographs", "caltech101", "flowers"])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    keep_freed()  # as in a training; workers of the other loaders are forked from this process and inherit it
    scratch = Path(tempfile.mkdtemp())
    try:
        parts = [on_files(name, options.data_root, scratch, options.rounds) for name in options.sets]
        parts += [on_memory(options.data_root, options.rounds), memory(options.data_root, scratch)]
    finally:
        shutil.rmtree(scratch)
    head = (
        f"{options.rounds} rounds, interleaved; median (range). {WORKERS} workers or threads each, batches of {BATCH}."
    )
    packages = ("torch", "torchvision", "nvidia-dali-cuda130", "webdataset", "pillow")
    print(write_result("loaders", "cpu", "\n\n".join([head, *parts]), *packages))
    sys.stdout.flush()
    os._exit(0)  # other loaders' worker processes have nothing to do at exit, and some hang


def photographs(folder: Path, count: int = 512) -> Path:
    """Write JPEGs of 500 x 375 pixels, quality 90, cut from scikit-learn's two photographs; a class per photograph."""
    from sklearn.datasets import load_sample_images

    images, random = load_sample_images().images, np.random.default_rng(0)
    for number in range(count + 16):
        part = "train" if number < count else "test"
        image = images[number % 2]
        y, x = (random.integers(0, side - cut + 1) for side, cut in zip(image.shape, (375, 500), strict=False))
        file = folder / part / str(number % 2) / f"{number:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[y : y + 375, x : x + 500]).save(file, quality=90)
    return folder


def on_files(name: str, root: Path | None, scratch: Path, rounds: int) -> str:
    """Measure images per second on one set of JPEGs, and return the table."""
    source = str(photographs(scratch / name)) if name == "photographs" else name
    dataset = load(DataConfig(name=source, root=root, normalize="imagenet"))
    epochs = -(-IMAGES // len(dataset.train))
    shards = scratch / f"{name}-shards"
    total = sum(file.stat().st_size for file in dataset.train.files)
    pack(dataset, shards, "shards", max(total // 8, 2**16), lambda _: None)
    distdl_loaders = {f"distdl {kind}": distdl_by_epoch(make(dataset, kind), epochs) for kind in ("torch", "dali")}
    peers = {
        PIL: loader_of_torch(dataset, pil=True),
        "DataLoader, decode_image": loader_of_torch(dataset, pil=False),
        "webdataset": webdataset(sorted(shards.glob("train-*.tar"))),
    }
    subjects = {label: by_epoch(loader, epochs) for label, loader in peers.items()} | distdl_loaders
    for measure in subjects.values():
        measure()
    figures = interleaved(subjects, rounds)
    alone = decoders(dataset, rounds)
    against, best = ratios(figures, PIL), max(statistics.median(values) for values in alone.values())
    rows = [
        [label, spread(values, 0), spread(against[label], 2), f"{statistics.median(values) / best:.0%}"]
        for label, values in figures.items()
    ]
    sizes = ", ".join(f"{label} {spread(values, 0)}" for label, values in alone.items())
    return "\n\n".join(
        [
            f"## {name}: {len(dataset.train):,} JPEGs, {total / len(dataset.train) / 1024:.0f} KiB each",
            markdown_table(["loader", "images/s", "over DataLoader, PIL", "of the fastest decoder"], rows),
            f"Only the decoder, complete images from memory on both cores, images/s: {sizes}.",
        ]
    )


def make(dataset: DataSet, kind: str, **augment: float) -> Loader:
    """Build distdl's loader as a training does."""
    augment = augment or {"random_resized_crop": True, "flip": 0.5}
    data = DataConfig(loader=kind, workers=WORKERS, batch_size=BATCH, augment=AugmentConfig(**augment))
    config = Config(data=data, compute=ComputeConfig(channels_last=True))
    return make_loader(config, dataset, dataset.train, World(), training=True)


def distdl_by_epoch(loader: Loader, epochs: int) -> Callable[[], float]:
    """Measure images per second of distdl's loader over `epochs` epochs."""
    begun = iter(range(10**9))
    return by_epoch(_Endless(lambda: loader.epoch(next(begun))), epochs)


class _Endless:
    """An iterable that yields the next epoch each time it is iterated."""

    def __init__(self, epoch: Callable[[], Iterable]) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator:
        return iter(self.epoch())


def by_epoch(loader: Iterable, epochs: int) -> Callable[[], float]:
    """Measure images per second over `epochs` epochs."""

    def measure() -> float:
        start, count = time.perf_counter(), 0
        for _ in range(epochs):
            for images, *_ in loader:
                count += len(images)
        return count / (time.perf_counter() - start)

    return measure


def transforms(first: list) -> Callable:
    from torchvision.transforms import v2

    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(*IMAGENET)]
    return v2.Compose([v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip(), *first, *last])


class _Files(torch.utils.data.Dataset):
    def __init__(self, dataset: DataSet, pil: bool) -> None:
        from torchvision.transforms import v2

        self.files, self.labels, self.pil = list(map(str, dataset.train.files)), dataset.train.labels, pil
        self.change = transforms([v2.ToImage()] if pil else [])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from torchvision.io import decode_image

        if self.pil:
            with Image.open(self.files[index]) as image:
                return self.change(image.convert("RGB")), int(self.labels[index])
        return self.change(decode_image(self.files[index], mode="RGB")), int(self.labels[index])


def loader_of_torch(dataset: DataSet, *, pil: bool) -> Iterable:
    """Build the usual DataLoader: workers read one sample at a time and return float32."""
    return torch.utils.data.DataLoader(
        _Files(dataset, pil), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )


def webdataset(shards: list[Path]) -> Iterable:
    """Build WebDataset as in its documentation."""
    import webdataset as wds
    from torchvision.transforms import v2

    change = transforms([v2.ToImage()])
    stream = wds.WebDataset(list(map(str, shards)), shardshuffle=len(shards)).shuffle(1000).decode("pil")
    stream = stream.to_tuple("jpg;png", "cls").map_tuple(change, lambda label: label).batched(BATCH)
    return wds.WebLoader(stream, batch_size=None, num_workers=WORKERS, persistent_workers=True)


def decoders(dataset: DataSet, rounds: int) -> dict[str, list[float]]:
    """Measure decoders in complete images per second, from memory, on as many cores as loaders use."""
    from torchvision.io import ImageReadMode, decode_jpeg

    picks = np.linspace(0, len(dataset.train) - 1, min(200, len(dataset.train))).astype(int)
    encoded = [np.fromfile(dataset.train.files[pick], np.uint8) for pick in picks]
    tensors = list(map(torch.from_numpy, encoded))

    pool = ThreadPoolExecutor(WORKERS)

    def torchvision() -> float:
        start = time.perf_counter()
        list(pool.map(lambda tensor: decode_jpeg(tensor, ImageReadMode.RGB), tensors))
        return len(tensors) / (time.perf_counter() - start)

    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=len(encoded), num_threads=WORKERS, device_id=None)
    def pipeline() -> object:
        return fn.decoders.image(fn.external_source(name="encoded"), output_type=types.RGB)

    built = pipeline()
    built.build()

    def dali() -> float:
        start = time.perf_counter()
        built.feed_input("encoded", encoded)
        built._run_once()
        built.share_outputs()
        built.release_outputs()
        return len(encoded) / (time.perf_counter() - start)

    dali(), torchvision()
    return interleaved({"torchvision": torchvision, "DALI": dali}, rounds)


def on_memory(root: Path | None, rounds: int) -> str:
    """Compare `resident` with `torch` on sets of small images, with a padded crop and, on CIFAR-10, flips."""
    rows = []
    for name, augment in (("mnist", {"crop": 2}), ("cifar10", {"crop": 4, "flip": 0.5})):
        dataset = load(DataConfig(name=name, root=root, limit=10_000))
        measures = {kind: distdl_by_epoch(make(dataset, kind, **augment), 2) for kind in ("resident", "torch")}
        for measure in measures.values():
            measure()
        figures = interleaved(measures, rounds)
        times = ratios(figures, "torch")["resident"]
        rows.append([name, *(spread(figures[kind], 0) for kind in ("resident", "torch")), spread(times, 1)])
    return "## Sets in memory, augmented\n\n" + markdown_table(["set", "resident", "torch", "times"], rows)


def memory(root: Path | None, scratch: Path) -> str:
    """Measure the memory of all processes at the start and after each of four epochs."""
    rows = []
    dataset = load(DataConfig(name="caltech101", root=root, normalize="imagenet"))
    pack(dataset, scratch / "memory", "shards", 2**21, lambda _: None)
    packed = load(DataConfig(name=str(scratch / "memory")))
    for kind in ("torch", "dali"):
        for layout, these in (("files", dataset), ("shards", packed)):
            earlier = set(psutil.Process().children())
            loader, seen = make(these, kind), []
            for epoch in range(4):
                for _ in loader.epoch(epoch):
                    pass
                processes = [psutil.Process(), *(set(psutil.Process().children()) - earlier)]
                seen.append(sum(process.memory_full_info().pss for process in processes) / 2**20)
            loader.close()
            rows.append([f"{kind}, {layout}", *(f"{value:.0f}" for value in seen), f"{seen[3] / seen[0] - 1:+.1%}"])
    header = ["loader", "1st epoch", "2nd", "3rd", "4th", "change over 3 epochs"]
    return "## Memory, MiB (PSS of all processes), caltech101\n\n" + markdown_table(header, rows)


if __name__ == "__main__":
    main()

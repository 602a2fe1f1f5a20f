"""Label files (data.labels), which give the labels to train on."""

import io
from pathlib import Path

import numpy as np

from distdl.data.dataset import Raw, ResidentSplit
from distdl.data.sets import relabel
from fuzz.run import Target

SET = Raw(
    train=ResidentSplit(labels=np.zeros(50, np.int64), images=np.zeros((50, 1, 1, 1), np.uint8)),
    test=ResidentSplit(labels=np.zeros(1, np.int64), images=np.zeros((1, 1, 1, 1), np.uint8)),
    classes=("a", "b", "c"),
)


def seeds(_folder: Path) -> dict[str, bytes]:
    """One label per sample; several per sample, with class names, compressed or not."""
    rng, files = np.random.default_rng(0), {}
    arrays = {"indices": rng.permutation(50)[:30], "labels": rng.integers(0, 3, 30)}
    many = {"indices": np.arange(50), "labels": rng.integers(0, 4, (50, 3)), "classes": np.array(["a", "b", "c", "d"])}
    for name, save, content in (("one.npz", np.savez, arrays), ("many.npz", np.savez, many),
                                ("compressed.npz", np.savez_compressed, many)):  # fmt: skip
        sink = io.BytesIO()
        save(sink, **content)
        files[name] = sink.getvalue()
    return files


def check(folder: Path, name: str, content: bytes) -> None:
    """The labels equal those of the undamaged file."""
    (folder / name).write_bytes(content)
    (folder / "undamaged.npz").write_bytes(seeds(folder)[name])
    actual, expected = relabel.apply(folder / name, SET), relabel.apply(folder / "undamaged.npz", SET)
    assert actual.classes == expected.classes, f"classes {actual.classes}"
    assert np.array_equal(actual.train.labels, expected.train.labels), "other labels"
    assert actual.train.images.shape == expected.train.images.shape, "other images"


TARGET = Target(seeds=seeds, check=check, share=10)

"""The trial before all trainings of a seed: tags of the long-tailed images, and the images of the clean task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distdl.core.config import DataConfig
from distdl.data.sets import load as datasets
from distdl.data.sets import relabel
from distdl.data.storage.splits import balanced
from distdl.studies.weak import hashtags

CLEAN = "clean.npz"


def file_name(sampling: str, noise: float) -> str:
    """File name of the tags with this noise, replicated for this sampling."""
    return f"tags-{sampling}-noise{noise:g}.npz"


def run(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Write the labels of the clean images, and the tags for each (sampling, noise) of `table["choices"]`.

    Returns:
        Number of images, tags per image, counts by class and by tag in descending order, and samples per choice.
    """
    seed = int(table["seed"])
    dataset = datasets.load(DataConfig(name=table["data"]))
    labels, classes = dataset.train.labels, len(dataset.classes)
    clean = balanced(labels, int(table["clean"]), seed)
    relabel.write(folder / CLEAN, clean, labels[clean])
    others = np.setdiff1d(np.arange(len(labels)), clean)
    images = others[hashtags.long_tail(labels[others], float(table["imbalance"]), seed)]
    synonyms = int(table["synonyms"])
    tags = hashtags.tagged(labels[images], classes, synonyms, int(table["most"]), seed)
    names = (*dataset.classes, *(f"{name} {number}" for number in range(2, synonyms + 1) for name in dataset.classes))
    sizes = []
    for sampling, noise in table["choices"]:
        noisy_tags = hashtags.noisy(tags, noise, seed)
        rows = hashtags.replicated(hashtags.replication(noisy_tags, sampling, float(table["threshold"])), seed)
        relabel.write(folder / file_name(sampling, noise), images[rows], noisy_tags[rows], names)
        sizes.append({"sampling": sampling, "noise": noise, "samples": len(rows)})
    return {
        "images": len(images),
        "tags_an_image": float((tags != hashtags.NONE).sum(1).mean()),
        "images_by_class": np.sort(np.bincount(labels[images], minlength=classes))[::-1].tolist(),
        "images_by_tag": np.sort(np.bincount(tags[tags != hashtags.NONE], minlength=len(names)))[::-1].tolist(),
        "sizes": sizes,
    }

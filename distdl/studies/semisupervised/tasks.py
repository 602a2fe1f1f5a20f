"""The trial between teacher and students: scores the unlabeled images once, and writes labels for every K and P."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.core.paths import inside
from distdl.core.profiles import Recipe, resolve
from distdl.core.run_files import CONFIG
from distdl.data.dataset import DataSet
from distdl.data.loaders import make_loader
from distdl.data.sets import load as datasets
from distdl.data.sets import relabel
from distdl.data.storage.npz import read_arrays
from distdl.data.storage.splits import balanced
from distdl.models import build as zoo
from distdl.runtime.world import World
from distdl.studies.semisupervised.pseudo import top_per_class

SCORES = "scores.npz"


def labels_name(k: int, p: int) -> str:
    """File name of the pseudo-labels for K and P."""
    return f"labels-k{k}-p{p}.npz"


def run(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Score images with the trial `table["teacher"]`, and select pseudo-labels for each (K, P) of `table["choices"]`.

    Returns:
        For each choice the numbers of labels and of distinct images, and the share of correct labels, which is known
        because the true labels of the unlabeled images exist.
    """
    teacher = inside(folder.parent, table["teacher"], folder)
    config = resolve(Recipe(profile=str(teacher / CONFIG)), strategy="single")
    labeled_by = config.data
    dataset = datasets.load(replace(labeled_by, limit=0))
    labeled = balanced(dataset.train.labels, labeled_by.limit, labeled_by.split_seed)
    unlabeled = np.setdiff1d(np.arange(len(dataset.train)), labeled)
    file = folder / SCORES
    if not file.is_file():
        scores = score(config, dataset, unlabeled, weights=teacher)
        write_atomic(file, lambda sink: np.savez_compressed(sink, scores=scores))
    scores = _scores(file, (len(unlabeled), len(dataset.classes)))
    truth = dataset.train.labels[unlabeled]
    choices = []
    for k, p in table["choices"]:
        chosen, labels = top_per_class(scores, k, p)
        relabel.write(folder / labels_name(k, p), unlabeled[chosen], labels)
        choices.append(
            {
                "k": k,
                "p": p,
                "labels": len(labels),
                "images": len(np.unique(chosen)),
                "right": float((truth[chosen] == labels).mean()),
            }
        )
    return {
        "labelled": len(labeled),
        "unlabelled": len(unlabeled),
        "teacher_right": float((scores.argmax(1) == truth).mean()),
        "choices": choices,
    }


def _scores(file: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the scores that an earlier start of this trial wrote.

    Raises:
        UserError: the file is damaged, or its array has another shape.
    """
    scores = read_arrays(file, "scores of images", 8 * shape[0] * shape[1] + 2**20).get("scores")
    if scores is None or scores.dtype != np.float32 or scores.shape != shape or not np.isfinite(scores).all():
        raise UserError(f"{file} is damaged: it does not have finite scores {list(shape)}; remove it")
    return scores


@torch.no_grad()
def score(config: Config, dataset: DataSet, indices: np.ndarray, weights: Path) -> np.ndarray:
    """Compute softmax scores [n, classes] float32 of the training images at `indices` [n], without augmentation."""
    device = torch.device("cuda" if torch.cuda.is_available() and config.compute.device != "cpu" else "cpu")
    network = zoo.build(
        replace(config.model, weights=str(weights), weights_part="all"),
        classes=len(dataset.classes),
        channels=dataset.channels,
        image_size=config.data.image_size or dataset.image_size,
        options=config.options.get("model", {}),
    )
    network = network.to(device).eval()
    loader = make_loader(config, dataset, dataset.train[indices], World(device=device), training=False)
    batches = [network(batch.images)[: batch.count].float().softmax(1).cpu() for batch in loader.epoch(0)]
    loader.close()
    if loader.skipped:
        raise UserError(f"scoring needs every image: {loader.skipped[0]}")
    return torch.cat(batches).numpy()

"""Settings and trials of study `optimizers`."""

import itertools
from dataclasses import dataclass
from typing import Literal

from distdl.core.config import Count, Decay, Positive, Share
from distdl.studies.base import Repetitions, Trial
from distdl.studies.features.grid import LearningRates
from distdl.studies.optimizers import cnn


@dataclass(frozen=True, kw_only=True)
class OptimizersSettings:
    """The published grids. Exercises 1 and 2 always run completely."""

    exercises: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    """Exercises to run."""
    line_steps: Positive = 1000
    """Steps of each of the line's 88 settings."""
    softmax_seeds: Repetitions = 5
    """Repetitions of the linear layer's 228 settings."""
    softmax_batch: Positive = 100
    """Batch size of the linear layer; the published value is unknown."""
    cnn_seeds: Repetitions = 3
    """Repetitions of each of the network's settings."""
    cnn_images: Count = 50_000
    """Number of training images of the network; 50,000 were published as 1,000 steps of 50 images; 0 uses all."""
    cnn_rates: LearningRates = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
    """Learning rates of Adam in the grid of one epoch."""
    cnn_batches: tuple[Positive, ...] = (1, 2, 4, 8, 16, 250, 500, 1000)
    """Batch sizes of Adam in the grid of one epoch."""
    betas: tuple[tuple[Decay, Decay], ...] = ((0.9, 0.999),)
    """Pairs of betas of Adam in the grid of one epoch."""
    other_rates: LearningRates = (1e-1, 1e-2, 1e-3)
    """Learning rates of the other optimizers over one epoch; none were published for this network."""
    other_batches: tuple[Positive, ...] = (16,)
    """Batch sizes of the other optimizers."""
    momenta: tuple[Share, ...] = (0.9,)
    """Values of momentum, for the other optimizers' grid."""
    long_epochs: Positive = 40
    """Number of epochs of the long trainings."""
    long_rates: LearningRates = (1e-6, 1e-5, 1e-4)
    """Learning rates of the long trainings, with Adam."""
    long_batches: tuple[Positive, ...] = (8, 16, 32, 64, 128, 256)
    """Batch sizes of the long trainings."""


def points(settings: OptimizersSettings) -> list[cnn.Point]:
    """Return the settings of exercise 3."""
    product = itertools.product
    return [
        *(
            cnn.Point(epochs=1, optimizer="adam", lr=lr, batch=batch, betas=betas)
            for lr, batch, betas in product(settings.cnn_rates, settings.cnn_batches, settings.betas)
        ),
        *(
            cnn.Point(epochs=1, optimizer=kind, lr=lr, batch=batch, momentum=momentum)
            for kind, momenta in (("sgd", (0.0,)), ("momentum", settings.momenta), ("adagrad", (0.0,)))
            for lr, batch, momentum in product(settings.other_rates, settings.other_batches, momenta)
        ),
        *(
            cnn.Point(epochs=settings.long_epochs, optimizer="adam", lr=lr, batch=batch)
            for lr, batch in product(settings.long_rates, settings.long_batches)
        ),
    ]


def trials(settings: OptimizersSettings) -> list[Trial]:
    """Return a trial for the line, one per seed for the linear layer, and one per setting and seed for the network."""
    listed = []
    if 1 in settings.exercises:
        listed.append(
            Trial(
                name="line",
                call="distdl.studies.optimizers.line:run",
                settings={"steps": settings.line_steps},
                labels={"exercise": 1, "settings": 88},
            )
        )
    if 2 in settings.exercises:
        listed += [
            Trial(
                name=f"softmax-seed{seed}",
                call="distdl.studies.optimizers.softmax:run",
                settings={"seed": seed, "batch": settings.softmax_batch},
                labels={"exercise": 2, "settings": 228, "seed": seed},
            )
            for seed in range(settings.softmax_seeds)
        ]
    if 3 in settings.exercises:
        listed += cnn.trials(points(settings), settings.cnn_images, settings.cnn_seeds)
    return listed

"""Specification of a loader: the samples of one split that one rank reads, and their augmentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from distdl.core.config import Config
from distdl.data.augment import extra
from distdl.data.augment import random_params as augment
from distdl.data.dataset import Batch, DataSet, EncodedSplit, ResidentSplit, Split
from distdl.data.files import ShardParts
from distdl.data.loaders import order
from distdl.runtime.world import World

TEN_CROP_SHARE = 7 / 8
"""Side of a crop relative to the side of the image: 224 / 256 (Krizhevsky et al. 2012)."""


@dataclass(frozen=True, kw_only=True)
class LoaderSpec:
    """A split of a data set, the rank that reads it, and the augmentation."""

    config: Config
    dataset: DataSet
    split: Split
    world: World
    training: bool
    """Whether samples are shuffled and augmented; otherwise each is delivered once, in the order of the split."""

    @property
    def global_batch(self) -> int:
        """Number of samples in a full step over all ranks."""
        data, world = self.config.data, self.world
        if self.training:
            return data.step_samples(world.size)
        return (data.eval_batch_size or 2 * data.rank_samples(world.size)) * world.size

    @property
    def batch(self) -> int:
        """Maximum number of samples of one rank in a step."""
        return -(-self.global_batch // self.world.size)

    @property
    def pieces(self) -> int:
        """Number of micro-batches of all ranks in a training step, ranks x micro-batches per rank; 0 in evaluation."""
        return self.world.size * self.config.optim.accumulate if self.training else 0

    @property
    def size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return self.config.data.image_size or self.dataset.image_size

    @property
    def ten_crop(self) -> bool:
        """Whether each image is delivered as its ten crops."""
        return self.config.data.ten_crop and self.split is self.dataset.test and not self.training

    @property
    def read_size(self) -> int:
        """Height and width, in pixels, to which images are resized on reading: larger than `size` for ten crops."""
        return round(self.size / TEN_CROP_SHARE) if self.ten_crop else self.size

    @property
    def central(self) -> float:
        """Share of an image file's short side that is read without random crops: 1 for ten crops."""
        return 1.0 if self.ten_crop else self.dataset.central

    @cached_property
    def extras(self) -> tuple[extra.Extra, ...]:
        """Augmentations of other packages."""
        return extra.make(self.config) if self.training else ()

    def draw(self, epoch: int, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Draw the parameters of all augmentations for samples `indices` [n] of an epoch; empty outside training."""
        if not self.training:
            return {}
        shape = self.split.images.shape[1:3] if isinstance(self.split, ResidentSplit) else None
        seed = self.config.seed
        params = augment.draw(self.config.data.augment, seed, epoch, indices, shape)
        return params | {each.key: each.draw(seed, epoch, indices) for each in self.extras}

    @property
    def shard_parts(self) -> ShardParts | None:
        """The images, if they are in a few large files."""
        split = self.split
        return split.files if isinstance(split, EncodedSplit) and isinstance(split.files, ShardParts) else None

    @property
    def _drop_last(self) -> bool:
        return self.training and self.config.data.drop_last

    def __len__(self) -> int:
        return order.steps(len(self.split), self.global_batch, drop_last=self._drop_last)

    def steps(self, epoch: int, start: int = 0) -> Iterator[order.Step]:
        """Yield this rank's steps of the epoch after its first `start` samples (counted over all ranks)."""
        world, sequence = self.world, self.sequence(epoch)
        return order.share(
            sequence, world.rank, world.size, self.global_batch, start, self._drop_last, pieces=self.pieces
        )

    def smallest_piece(self, start: int = 0) -> int:
        """Return the number of samples in the smallest micro-batch of the epoch after its first `start` samples."""
        return order.smallest_piece(len(self.split) - start, self.global_batch, self.pieces, self._drop_last)

    def divides_as_one_rank(self) -> bool:
        """Whether the steps of an epoch have the same sizes as on one rank without gradient accumulation."""
        n, batch, drop_last = len(self.split), self.global_batch, self._drop_last
        return np.array_equal(order.sizes(n, batch, self.pieces, drop_last), order.sizes(n, batch, 1, drop_last))

    def sequence(self, epoch: int) -> np.ndarray:
        """Return the samples of all ranks in the epoch's order, [n] int64."""
        if not self.training:
            return np.arange(len(self.split))
        if files := self.shard_parts:
            return order.order_in_blocks(self.config.seed, epoch, files.blocks())
        return order.order(self.config.seed, epoch, len(self.split))

    def deliver(
        self, step: order.Step, images: torch.Tensor, labels: torch.Tensor, indices: np.ndarray | None = None
    ) -> Batch:
        """Build the batch of a step.

        Args:
            indices: [b] samples that were read, if they differ from those of the step.
        """
        return Batch(
            images,
            labels,
            count=step.count,
            weight=step.count * self.world.size / step.total,
            total=step.total,
            indices=(step.indices if indices is None else indices)[: step.count],
        )

"""Settings and trials of study `weak`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from distdl.core.config import Count, LearningRate, Positive, Share, Text
from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.features.one_cycle import one_cycle
from distdl.studies.weak import report
from distdl.studies.weak.hashtags import Sampling
from distdl.studies.weak.tasks import CLEAN, file_name

TransferMode = Literal["features", "fine-tuned"]


@dataclass(frozen=True, kw_only=True)
class WeakSettings:
    """The tags, the sweeps over sampling and noise, and the transfer."""

    data: Literal["cifar10", "mnist"] = "cifar10"
    """The data set whose labels are turned into tags."""
    network: Text = "resnet20"
    head: Text = "linear"
    """Name of the network's last layer, the only part that is trained on frozen features."""
    samplings: tuple[Sampling, ...] = ("natural", "square-root", "uniform")
    """Kinds of sampling to compare, without noise."""
    noises: tuple[Share, ...] = (0.1, 0.25, 0.5)
    """Shares of the tags to replace by others, with `noise_sampling`."""
    noise_sampling: Sampling = "square-root"
    """Sampling in the comparison of `noises`."""
    transfers: tuple[TransferMode, ...] = ("features", "fine-tuned")
    """features: only the last layer is trained, as a linear classifier on the pre-trained features; fine-tuned: all
    layers are trained."""
    seeds: Repetitions = 3
    """Number of repetitions; each draws its own long tail, tags, noise and clean images."""
    imbalance: Annotated[float, Field(ge=1, le=1e9)] = 100.0
    """Number of images of the most frequent class divided by that of the rarest."""
    synonyms: Positive = 4
    """Number of tags per class, with frequencies by Zipf's law."""
    most: Positive = 3
    """Largest number of tags per image."""
    threshold: Share = 1.0
    """t of r(h) = max(1, phi(t / f(h))), as a share of the most frequent tag's count."""
    clean: Positive = 1000
    """Number of images of the clean task."""
    pretrain_steps: Positive = 8000
    """Steps of pre-training on the tags, the same for each sampling."""
    transfer_steps: Positive = 1000
    """Steps of training on the clean task, after pre-training and from scratch."""
    batch_size: Positive = 128
    lr: LearningRate = 0.005
    """Peak learning rate of the one-cycle schedule (AdamW)."""
    finetune_lr: LearningRate = 0.001
    """Peak learning rate if the whole pre-trained network is trained."""
    flip: Share = 0.5
    """data.augment.flip of CIFAR-10's images."""
    crop: Count = 4
    """data.augment.crop of CIFAR-10's images."""

    def __post_init__(self) -> None:
        if self.most > self.synonyms:
            raise ValueError(f"most is {self.most}, but a class has only {self.synonyms} synonyms")


def choices(settings: WeakSettings) -> list[tuple[str, float]]:
    """Return the distinct pairs of sampling and noise."""
    pairs = [(sampling, 0.0) for sampling in settings.samplings]
    noisy = [(settings.noise_sampling, noise) for noise in settings.noises]
    return list(dict.fromkeys([*pairs, *noisy]))


def _recipe(settings: WeakSettings, seed: int, steps: int, lr: float, overrides: Overrides) -> Recipe:
    """Return a training; `overrides` set its labels and initial weights."""
    has_color = settings.data == "cifar10"
    return one_cycle(
        data=settings.data,
        network=settings.network,
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=settings.batch_size,
        flip=settings.flip if has_color else 0.0,
        crop=settings.crop if has_color else 0,
        overrides=overrides,
    )


def trials(settings: WeakSettings) -> list[Trial]:
    """Return for each seed the tags, the clean task from scratch, and a pre-training with transfers for each choice."""
    return [trial for seed in range(settings.seeds) for trial in _of_seed(settings, seed)]


def _of_seed(settings: WeakSettings, seed: int) -> list[Trial]:
    tags = Trial(
        name=f"tags-seed{seed}",
        call="distdl.studies.weak.tasks:run",
        settings={
            "seed": seed,
            "choices": [list(pair) for pair in choices(settings)],
            **{
                name: getattr(settings, name)
                for name in ("data", "clean", "imbalance", "synonyms", "most", "threshold")
            },
        },
        labels={"part": "tags", "seed": seed},
    )
    files = f"{{study}}/trials/{tags.name}"
    clean = {"data.labels": f"{files}/{CLEAN}"}
    listed = [
        tags,
        Trial(
            name=f"scratch-seed{seed}",
            recipe=_recipe(settings, seed, settings.transfer_steps, settings.lr, clean),
            after=(tags.name,),
            labels={"part": "from scratch", "seed": seed},
        ),
    ]
    for sampling, noise in choices(settings):
        labels = {"sampling": sampling, "noise": noise, "seed": seed}
        pretrain = Trial(
            name=report.name("pretrain", sampling, noise, seed),
            recipe=_recipe(
                settings,
                seed,
                settings.pretrain_steps,
                settings.lr,
                {"data.labels": f"{files}/{file_name(sampling, noise)}"},
            ),
            after=(tags.name,),
            labels=labels | {"part": "pre-training"},
        )
        listed.append(pretrain)
        for transfer in settings.transfers:
            frozen = transfer == "features"
            rate = settings.lr if frozen else settings.finetune_lr
            overrides: dict[str, Any] = {**clean, "model.weights": f"{{study}}/trials/{pretrain.name}"}
            if frozen:
                overrides["model.train_only"] = (f"{settings.head}.*",)
            listed.append(
                Trial(
                    name=report.name(transfer, sampling, noise, seed),
                    recipe=_recipe(settings, seed, settings.transfer_steps, rate, overrides),
                    after=(pretrain.name,),
                    labels=labels | {"part": transfer},
                )
            )
    return listed

"""Settings and trials of study `weak`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from distdl.core.config import Count, Positive, Share
from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.features.one_cycle import one_cycle
from distdl.studies.weak import report as shown
from distdl.studies.weak.hashtags import Sampling
from distdl.studies.weak.tasks import CLEAN, file_name

Transfer = Literal["features", "fine-tuned"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The tags, the sweeps over sampling and noise, and the transfer."""

    data: Literal["cifar10", "mnist"] = "cifar10"
    """The set whose labels become tags."""
    network: str = "resnet20"
    head: str = "linear"
    """The network's last layer: the only part that is trained again on frozen features."""
    samplings: tuple[Sampling, ...] = ("natural", "square-root", "uniform")
    """Ways of sampling the tags, without noise."""
    noises: tuple[Share, ...] = (0.1, 0.25, 0.5)
    """Shares of the tags that are replaced by others..."""
    noise_sampling: Sampling = "square-root"
    """...with this sampling."""
    transfers: tuple[Transfer, ...] = ("features", "fine-tuned")
    """features: only the last layer is trained, a linear classifier of the pre-trained features; fine-tuned: all is
    trained."""
    seeds: Repetitions = 3
    """Repetitions: each draws the tail, the tags, the noise and the clean images."""
    imbalance: Annotated[float, Field(ge=1)] = 100.0
    """Ratio of the images of the most frequent class to those of the rarest."""
    synonyms: Positive = 4
    """Tags per class, later ones are rarer, by Zipf's law."""
    most: Positive = 3
    """Largest number of tags per image."""
    threshold: Share = 1.0
    """t of r(h) = max(1, phi(t / f(h))), as a share of the most frequent tag's count."""
    clean: Positive = 1000
    """Images of the clean task."""
    pretrain_steps: Positive = 8000
    """Steps on the tags: the same for each sampling, for any number of replicas."""
    transfer_steps: Positive = 1000
    """Steps on the clean task, and of the network that is trained on it from scratch."""
    batch_size: Positive = 128
    lr: float = 0.005
    """Peak learning rate of one cycle (AdamW)."""
    finetune_lr: float = 0.001
    """Peak learning rate if the whole pre-trained network is trained."""
    flip: Share = 0.5
    """data.augment.flip of CIFAR-10's images."""
    crop: Count = 4
    """data.augment.crop of CIFAR-10's images."""

    def __post_init__(self) -> None:
        if self.most > self.synonyms:
            raise ValueError(f"most {self.most}: a class has only {self.synonyms} synonyms")


def choices(settings: Settings) -> list[tuple[str, float]]:
    """Pairs of sampling and noise."""
    pairs = [(sampling, 0.0) for sampling in settings.samplings]
    noisy = [(settings.noise_sampling, noise) for noise in settings.noises]
    return list(dict.fromkeys([*pairs, *noisy]))


def _recipe(settings: Settings, seed: int, steps: int, lr: float, overrides: Overrides) -> Recipe:
    """A training; `overrides` give its labels and initial weights."""
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


def trials(settings: Settings) -> list[Trial]:
    """By seed: the tags, the clean task from scratch, and a pre-training with its transfers by sampling and noise."""
    return [trial for seed in range(settings.seeds) for trial in _of_seed(settings, seed)]


def _of_seed(settings: Settings, seed: int) -> list[Trial]:
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
            name=shown.name("pretrain", sampling, noise, seed),
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
                    name=shown.name(transfer, sampling, noise, seed),
                    recipe=_recipe(settings, seed, settings.transfer_steps, rate, overrides),
                    after=(pretrain.name,),
                    labels=labels | {"part": transfer},
                )
            )
    return listed

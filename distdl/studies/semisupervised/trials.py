"""Settings and trials of study `semisupervised`."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from distdl.core.config import LearningRate, Positive, Text
from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.features.one_cycle import one_cycle
from distdl.studies.semisupervised.tasks import labels_name

IMAGES = {"cifar10": 50_000, "mnist": 60_000}
"""Number of training images."""


@dataclass(frozen=True, kw_only=True)
class Case:
    data: str
    share: float
    """Share of the training images that keep their labels."""
    seed: int
    teacher: str
    student: str
    batch_size: int
    augment: bool

    def name(self, part: str, *choice: int) -> str:
        """Name of a trial; `choice`: K and P, if it has them."""
        more = "".join(f"-{letter}{value}" for letter, value in zip("kp", choice, strict=False))
        return f"{self.data}-{self.share:g}-seed{self.seed}-{part}{more}"

    @property
    def labels(self) -> int:
        """Number of images that keep their labels."""
        return round(self.share * IMAGES[self.data])

    @property
    def labeled(self) -> Overrides:
        """Overrides to train on these images only. The seed selects them, so the variance includes their selection."""
        return {"data.limit": self.labels, "data.split_seed": self.seed}

    def recipe(self, network: str, steps: int, lr: float, overrides: Overrides) -> Recipe:
        """Return a training of `network`; `overrides` set its labels and initial weights."""
        return one_cycle(
            data=self.data,
            network=network,
            steps=steps,
            lr=lr,
            seed=self.seed,
            batch_size=self.batch_size,
            flip=0.5 if self.augment else 0.0,
            crop=4 if self.augment else 0,
            overrides=overrides,
        )


LabelShare = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class SemisupervisedSettings:
    """Sets, networks, and the sweeps over K and P."""

    sets: tuple[Literal["cifar10", "mnist"], ...] = ("cifar10", "mnist")
    """Data sets."""
    cifar10_shares: tuple[LabelShare, ...] = (0.01, 0.05, 0.1)
    """Shares of CIFAR-10's training images that keep their labels."""
    mnist_shares: tuple[LabelShare, ...] = (0.002, 0.01)
    """Shares of MNIST's training images that keep their labels."""
    cifar10_teacher: Text = "resnet56"
    """The teacher's network, which may be larger than the student's."""
    cifar10_student: Text = "resnet20"
    """The student's network, also used for training on the true labels alone."""
    mnist_teacher: Text = "mnist-fast"
    mnist_student: Text = "mnist-fast"
    ks: tuple[Positive, ...] = (50, 100, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
    """K, images per class."""
    p: Annotated[int, Field(ge=1, le=10)] = 10
    """P, classes per image, in the sweep over K; 10 as in the paper."""
    ps: tuple[Annotated[int, Field(ge=1, le=10)], ...] = (1, 2, 5)
    """Further values of P, at K = `ps_k`."""
    ps_k: Positive = 16_000
    """K in the sweep over P; 16,000 as in the paper."""
    seeds: Repetitions = 3
    """Number of repetitions; each selects the images that keep their labels, and trains its own teacher."""
    teacher_steps: Positive = 4000
    """Steps of the teacher, and of the training on the true labels alone."""
    pretrain_steps: Positive = 20_000
    """Steps of the student's pre-training on pseudo-labels, the same for each K."""
    finetune_steps: Positive = 1000
    """Steps of the student's fine-tuning on the true labels."""
    batch_size: Positive = 128
    lr: LearningRate = 0.005
    """Peak learning rate of the one-cycle schedule (AdamW)."""
    finetune_lr: LearningRate = 0.0005
    """Peak learning rate of the fine-tuning."""
    augment: bool = True
    """Whether to augment CIFAR-10's images by flips and padded crops."""


def cases(settings: SemisupervisedSettings) -> Iterator[Case]:
    """Yield all combinations of a data set, a share of labels and a seed."""
    for name, seed in itertools.product(settings.sets, range(settings.seeds)):
        cifar = name == "cifar10"
        for share in settings.cifar10_shares if cifar else settings.mnist_shares:
            yield Case(
                data=name,
                share=share,
                seed=seed,
                teacher=settings.cifar10_teacher if cifar else settings.mnist_teacher,
                student=settings.cifar10_student if cifar else settings.mnist_student,
                batch_size=settings.batch_size,
                augment=settings.augment and cifar,
            )


def choices(settings: SemisupervisedSettings) -> list[tuple[int, int]]:
    """Return the distinct pairs of K and P."""
    pairs = [*((k, settings.p) for k in settings.ks), *((settings.ps_k, p) for p in settings.ps)]
    return sorted(set(pairs))


def trials(settings: SemisupervisedSettings) -> list[Trial]:
    """Return for each case the teacher, training on true labels alone, scoring, and two trainings per K and P."""
    listed = []
    for case in cases(settings):
        labels = {"set": case.data, "share": case.share, "seed": case.seed}
        teacher = case.recipe(case.teacher, settings.teacher_steps, settings.lr, case.labeled)
        listed.append(Trial(name=case.name("teacher"), recipe=teacher, labels=labels | {"part": "teacher"}))
        if case.student != case.teacher:
            alone = case.recipe(case.student, settings.teacher_steps, settings.lr, case.labeled)
            listed.append(Trial(name=case.name("alone"), recipe=alone, labels=labels | {"part": "labels alone"}))
        scores = Trial(
            name=case.name("scores"),
            call="distdl.studies.semisupervised.tasks:run",
            settings={"teacher": case.name("teacher"), "choices": [list(pair) for pair in choices(settings)]},
            after=(case.name("teacher"),),
            labels=labels | {"part": "scores"},
        )
        listed.append(scores)
        for k, p in choices(settings):
            labels_of_choice = labels | {"k": k, "p": p}
            pretrain = Trial(
                name=case.name("pretrain", k, p),
                recipe=case.recipe(
                    case.student,
                    settings.pretrain_steps,
                    settings.lr,
                    {"data.labels": f"{{study}}/trials/{scores.name}/{labels_name(k, p)}"},
                ),
                after=(scores.name,),
                labels=labels_of_choice | {"part": "pre-training"},
            )
            finetune = Trial(
                name=case.name("finetune", k, p),
                recipe=case.recipe(
                    case.student,
                    settings.finetune_steps,
                    settings.finetune_lr,
                    {**case.labeled, "model.weights": f"{{study}}/trials/{pretrain.name}"},
                ),
                after=(pretrain.name,),
                labels=labels_of_choice | {"part": "fine-tuning"},
            )
            listed += [pretrain, finetune]
    return listed

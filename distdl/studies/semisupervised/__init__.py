"""Study `semisupervised`: a teacher labels what has no labels, after Yalniz et al. 2019 (arXiv:1905.00546).

    teacher (few labels) -> scores of the rest, once -> top K per class -> student, pre-trained, then fine-tuned

The rest of a real set's training images plays the images without labels: theirs are put aside.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from distdl.core.config import Positive
from distdl.report.content import Section
from distdl.studies.base import Outcome, Repetitions, Study, Trial
from distdl.studies.semisupervised import report as shown
from distdl.studies.semisupervised.tasks import labels_name
from distdl.studies.semisupervised.trials import Case

Part = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sets, networks, and the sweeps over K and P."""

    sets: tuple[Literal["cifar10", "mnist"], ...] = ("cifar10", "mnist")
    """On which sets."""
    cifar10_shares: tuple[Part, ...] = (0.01, 0.05, 0.1)
    """Shares of CIFAR-10's training images that keep their labels."""
    mnist_shares: tuple[Part, ...] = (0.002, 0.01)
    """The same of MNIST."""
    cifar10_teacher: str = "resnet56"
    """The teacher's network, which may be larger than the student's."""
    cifar10_student: str = "resnet20"
    """The student's network, and that of the training on the labels alone."""
    mnist_teacher: str = "mnist-fast"
    mnist_student: str = "mnist-fast"
    ks: tuple[Positive, ...] = (50, 100, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
    """K: images a class."""
    p: Annotated[int, Field(ge=1, le=10)] = 10
    """P, classes an image, while K is swept: the paper's 10."""
    ps: tuple[Annotated[int, Field(ge=1, le=10)], ...] = (1, 2, 5)
    """Further P..."""
    ps_k: Positive = 16_000
    """...at this K: the paper's 16,000."""
    seeds: Repetitions = 3
    """Repetitions: each draws which images keep their labels, and trains a teacher of its own."""
    teacher_steps: Positive = 4000
    """Steps of the teacher, and of the student on the labels alone."""
    pretrain_steps: Positive = 20_000
    """Steps of the student on the teacher's labels: the same for each K."""
    finetune_steps: Positive = 1000
    """Steps of the student on the true labels after that."""
    batch_size: Positive = 128
    lr: float = 0.005
    """Learning rate at the top of one cycle (AdamW)."""
    finetune_lr: float = 0.0005
    """The same of the fine-tuning."""
    augment: bool = True
    """Flips and padded crops of CIFAR-10's images."""


QUICK = {
    "cifar10_shares": (0.02,),
    "mnist_shares": (0.002,),
    "cifar10_teacher": "mnist-fast",
    "cifar10_student": "mnist-fast",
    "ks": (10, 300, 3000, 20_000),
    "ps": (1,),
    "ps_k": 20_000,
    "teacher_steps": 250,
    "pretrain_steps": 300,
    "finetune_steps": 60,
    "batch_size": 64,
    "augment": False,
}


def cases(settings: Settings) -> Iterator[Case]:
    """A set with a share of labels and a seed."""
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


def choices(settings: Settings) -> list[tuple[int, int]]:
    """Pairs of K and P, each once."""
    pairs = [*((k, settings.p) for k in settings.ks), *((settings.ps_k, p) for p in settings.ps)]
    return sorted(set(pairs))


def trials(settings: Settings) -> list[Trial]:
    """By case: the teacher, the labels alone, the scores, and two trainings for each K and P."""
    found = []
    for case in cases(settings):
        labels = {"set": case.data, "share": case.share, "seed": case.seed}
        teacher = case.recipe(case.teacher, settings.teacher_steps, settings.lr, case.labelled)
        found.append(Trial(name=case.name("teacher"), recipe=teacher, labels=labels | {"part": "teacher"}))
        if case.student != case.teacher:
            alone = case.recipe(case.student, settings.teacher_steps, settings.lr, case.labelled)
            found.append(Trial(name=case.name("alone"), recipe=alone, labels=labels | {"part": "labels alone"}))
        scores = Trial(
            name=case.name("scores"),
            call="distdl.studies.semisupervised.tasks:run",
            settings={"teacher": case.name("teacher"), "choices": [list(pair) for pair in choices(settings)]},
            after=(case.name("teacher"),),
            labels=labels | {"part": "scores"},
        )
        found.append(scores)
        for k, p in choices(settings):
            own = labels | {"k": k, "p": p}
            pretrain = Trial(
                name=case.name("pretrain", k, p),
                recipe=case.recipe(
                    case.student,
                    settings.pretrain_steps,
                    settings.lr,
                    {"data.labels": f"{{study}}/trials/{scores.name}/{labels_name(k, p)}"},
                ),
                after=(scores.name,),
                labels=own | {"part": "pre-training"},
            )
            finetune = Trial(
                name=case.name("finetune", k, p),
                recipe=case.recipe(
                    case.student,
                    settings.finetune_steps,
                    settings.finetune_lr,
                    {**case.labelled, "model.weights": f"{{study}}/trials/{pretrain.name}"},
                ),
                after=(pretrain.name,),
                labels=own | {"part": "fine-tuning"},
            )
            found += [pretrain, finetune]
    return found


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """A section for each set and share of labels."""
    groups: dict[tuple[str, float], list[Case]] = {}
    for case in cases(settings):
        groups.setdefault((case.data, case.share), []).append(case)
    found = [shown.section(group, choices(settings), settings.p, outcomes) for group in groups.values()]
    return [section for section in found if section]


STUDY = Study(
    name="semisupervised",
    summary="a teacher labels what has no labels: accuracy over K images a class and P labels an image (Yalniz 2019)",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

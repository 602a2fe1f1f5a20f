"""Study `semisupervised`: a teacher labels unlabeled images, after Yalniz et al. 2019 (arXiv:1905.00546).

    teacher (few labels) -> scores of unlabeled images -> top K per class -> student, pre-trained, then fine-tuned

The other training images of the data set serve as unlabeled images: their labels are not used.
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.semisupervised import report
from distdl.studies.semisupervised.trials import Case, SemisupervisedSettings, cases, choices, trials

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


def findings(settings: SemisupervisedSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return a section for each data set and share of labels."""
    groups: dict[tuple[str, float], list[Case]] = {}
    for case in cases(settings):
        groups.setdefault((case.data, case.share), []).append(case)
    sections = [report.section(group, choices(settings), settings.p, outcomes) for group in groups.values()]
    return [section for section in sections if section]


STUDY = Study(
    name="semisupervised",
    settings=SemisupervisedSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

"""Study `weak`: pre-training on noisy tags with a long tail, after Mahajan et al. 2018 (arXiv:1805.00932).

    true labels -> long tail -> tags per image -> noise -> sampling -> pre-training -> transfer to the clean task

The clean task has a small number of other images, evenly distributed over the classes.
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.weak import report
from distdl.studies.weak.trials import WeakSettings, choices, trials

QUICK = {
    "network": "mnist-fast",
    "head": "classifier.2",
    "transfers": ("features",),
    "seeds": 4,
    "pretrain_steps": 400,
    "transfer_steps": 200,
    "batch_size": 64,
    "flip": 0.0,
    "crop": 0,
}


def findings(settings: WeakSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return a section about the tags, and one for each kind of transfer."""
    seeds = range(settings.seeds)
    sections = [report.tags_section([outcomes.get(f"tags-seed{seed}") for seed in seeds])]
    sections += [
        report.section(transfer, choices(settings), settings.noise_sampling, seeds, outcomes)
        for transfer in settings.transfers
    ]
    return [section for section in sections if section]


STUDY = Study(
    name="weak",
    settings=WeakSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

"""The study `scaling`: one training on an increasing number of workers."""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.scaling.report import sections
from distdl.studies.scaling.results import repeats
from distdl.studies.scaling.trials import ScalingSettings, trials

QUICK = {"repeats": 3, "epochs": 3, "images": 1000}
"""The published network and batch on 1,000 images, at the same points."""


def findings(settings: ScalingSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Tables and figures of the completed trials."""
    measured = repeats(outcomes.values())
    is_published = settings.profile == "mnist-cnn" and settings.mode == "weak" and settings.batch == 16
    return sections(measured, mode=settings.mode, epochs=settings.epochs, is_published=is_published)


STUDY = Study(
    name="scaling",
    settings=ScalingSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
    alone=True,
)

"""The study `scaling`: one training on more and more workers (document 004, exercise 4)."""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.scaling.report import sections
from distdl.studies.scaling.results import repeats
from distdl.studies.scaling.trials import Settings, trials

QUICK = {"repeats": 3, "epochs": 3, "images": 1000}
"""Document 004's network and batch on 1,000 images; the points are the same."""


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Tables and figures of exercise 4, of what is completed of it."""
    found = repeats(outcomes.values())
    document = settings.profile == "mnist-cnn" and settings.mode == "weak" and settings.batch == 16
    return sections(found, mode=settings.mode, epochs=settings.epochs, document=document)


STUDY = Study(
    name="scaling",
    summary="one training on more and more workers: time, speed-up, efficiency, accuracy (document 004)",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
    alone=True,
)

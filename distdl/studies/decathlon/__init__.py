"""Study `decathlon`: one network onto the ten domains of the Visual Decathlon, with the challenge's score.

Document 001 (P1) takes its target sets from there. Domains that are not here are said to be missing; the rest are run.
The quick version trains last layers on the frozen features of a small network; it fine-tunes nothing.
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.decathlon import report as shown
from distdl.studies.decathlon.trials import Settings, selected_domains, trials

QUICK = {
    "profile": "darknet-caltech101",
    "overrides": {"data.loader": "resident", "data.validation": 0.2, "epochs": 30, "data.batch_size": 64},
    "head_rates": (0.1, 0.01, 0.001, 0.0001),
    "rates": (),
}


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Accuracy and points of the domains that are done; those that are missing by name."""
    return shown.findings(selected_domains(settings), settings.rates, settings.seeds, outcomes)


STUDY = Study(
    name="decathlon",
    summary="the ten domains of the Visual Decathlon at 72 pixels, with the challenge's score (document 001)",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

"""Study `decathlon`: transfer of one network to the ten domains of the Visual Decathlon, with the challenge's score.

Domains whose images are not available are listed as missing.
The quick version only trains last layers on the frozen features of a small network, without fine-tuning.
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.decathlon import report
from distdl.studies.decathlon.trials import DecathlonSettings, selected_domains, trials

QUICK = {
    "profile": "darknet-caltech101",
    "overrides": {"data.loader": "resident", "data.validation": 0.2, "epochs": 30, "data.batch_size": 64},
    "head_rates": (0.1, 0.01, 0.001, 0.0001),
    "rates": (),
}


def findings(settings: DecathlonSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return accuracy and score of the completed domains, and the names of missing ones."""
    return report.findings(selected_domains(settings), settings.rates, settings.seeds, outcomes)


STUDY = Study(
    name="decathlon",
    settings=DecathlonSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

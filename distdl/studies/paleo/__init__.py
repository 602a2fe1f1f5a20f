"""The study `paleo`: FLOPs and time of a network, layer by layer."""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.paleo import report
from distdl.studies.paleo.trials import COUNTS, PaleoSettings, trials

QUICK = {"networks": ("alexnet", "googlenet", "resnet50"), "batch": 4, "rounds": 2, "repeats": 3}
"""Three networks at a smaller batch size."""


def findings(settings: PaleoSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return the results of the completed trials."""
    sections = []
    if COUNTS in outcomes and outcomes[COUNTS].completed:
        sections += [report.vgg19(outcomes[COUNTS].result), report.k80(outcomes[COUNTS].result)]
    by_network = {
        network: [
            outcome.result
            for outcome in outcomes.values()
            if outcome.completed and outcome.trial.labels.get("network") == network
        ]
        for network in settings.networks
    }
    by_network = {network: results for network, results in by_network.items() if results}
    return [*sections, report.sums(by_network, settings.batch)] if by_network else sections


STUDY = Study(
    name="paleo",
    settings=PaleoSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
    alone=True,
)

"""The study `paleo`: where a network's FLOPs and its time are, layer by layer (document 001, problem 3)."""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.paleo import report as shown
from distdl.studies.paleo.trials import COUNTS, Settings, trials

QUICK = {"networks": ("alexnet", "googlenet", "resnet50"), "batch": 4, "rounds": 2, "repeats": 3}
"""Three networks at a smaller batch."""


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """The document's three questions, of what is completed."""
    found = []
    if COUNTS in outcomes and outcomes[COUNTS].completed:
        found += [shown.vgg19(outcomes[COUNTS].result), shown.k80(outcomes[COUNTS].result)]
    done = {
        network: [
            outcome.result
            for outcome in outcomes.values()
            if outcome.completed and outcome.trial.labels.get("network") == network
        ]
        for network in settings.networks
    }
    done = {network: results for network, results in done.items() if results}
    return [*found, shown.sums(done, settings.batch)] if done else found


STUDY = Study(
    name="paleo",
    summary="FLOPs and time by layer: VGG19, a K80, and layer sums against totals measured here (document 001)",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
    alone=True,
)

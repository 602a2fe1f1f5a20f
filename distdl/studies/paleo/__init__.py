"""The study `paleo`: where a network's FLOPs and its time are, layer by layer (document 001, problem 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from distdl.report.content import Section
from distdl.studies.base import Outcome, Repetitions, Study, Trial
from distdl.studies.paleo import report as shown

Positive = Annotated[int, Field(gt=0)]
COUNTS = "counts"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured here. What is counted is the document's: VGG19, and three networks on a K80."""

    networks: tuple[str, ...] = ("alexnet", "vgg16", "vgg19", "googlenet", "resnet50", "mobilenet_v2")
    """Networks whose layers are timed on this machine."""
    batch: Positive = 16
    """Images a step."""
    rounds: Positive = 5
    """Of each measurement within a trial; their median counts."""
    repeats: Repetitions = 5
    """Trials of each network, each a process of its own."""
    on: Literal["auto", "cpu", "cuda"] = "auto"
    """Where they are timed."""


QUICK = {"networks": ("alexnet", "googlenet", "resnet50"), "batch": 4, "rounds": 2, "repeats": 3}
"""Three networks at a smaller batch."""


def trials(settings: Settings) -> list[Trial]:
    """What is counted, once; and the networks measured in turn, so that a drift meets all alike."""
    measured = [
        Trial(
            name=f"{network}-{repeat}",
            call="distdl.studies.paleo.tasks:measured",
            settings={"network": network, "batch": settings.batch, "rounds": settings.rounds, "on": settings.on},
            labels={"network": network, "repeat": repeat},
        )
        for repeat in range(settings.repeats)
        for network in settings.networks
    ]
    return [Trial(name=COUNTS, call="distdl.studies.paleo.tasks:counts"), *measured]


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

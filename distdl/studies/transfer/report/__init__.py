"""Results of study `transfer` as sections: target set, learning rates, approaches, augmentation, explanation."""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome
from distdl.studies.transfer.report import approaches, augmentation, explanation, rates, target
from distdl.studies.transfer.results import by_rate
from distdl.studies.transfer.settings import TransferSettings


def findings(settings: TransferSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """A section for each topic that has completed trials."""
    results = by_rate(settings, outcomes)
    sections = [
        target.section(outcomes.get("target")),
        rates.section(results),
        approaches.section(results, outcomes),
        augmentation.section(results, settings, outcomes.get("ten-crop")),
        explanation.section(results, outcomes),
    ]
    return [section for section in sections if section is not None]

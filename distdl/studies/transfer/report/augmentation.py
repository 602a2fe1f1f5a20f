"""Augmentation and ten crops, compared with plain fine-tuning, paired by seed."""

from collections.abc import Mapping, Sequence

from distdl.core.statistics import gain, over_seeds
from distdl.report.content import Finding, Section, Table
from distdl.report.sentences import change
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import percent
from distdl.studies.transfer import published
from distdl.studies.transfer.report.rates import table
from distdl.studies.transfer.results import RateResult
from distdl.studies.transfer.settings import TransferSettings
from distdl.studies.transfer.trials import TITLES


def section(results: Sequence[RateResult], settings: TransferSettings, crops: Outcome | None) -> Section | None:
    """Compare each augmentation with none; None if there is nothing to compare."""
    plain = next((result for result in results if (result.kind, result.lr) == ("finetune", settings.lr)), None)
    if not plain or not plain.runs:
        return None
    augmented = [result for result in results if result.kind.startswith("augment-") and result.runs]
    parts: list[Finding | Table] = [part for result in augmented if (part := _augmented(plain, result))]
    if crops and crops.completed:
        parts.append(_crops(plain, crops.result["accuracy"]))
    if not parts:
        return None
    parts.append(table([plain, *augmented], "transfer-augmentation", "Augmentation, measured and published"))
    return Section(
        title="Augmentation and ten crops",
        text=f"All at learning rate {settings.lr:g}. Each augmentation is applied to a random half of the images in "
        "every epoch. Differences are paired by seed.",
        parts=tuple(parts),
    )


def _augmented(plain: RateResult, result: RateResult) -> Finding | None:
    difference = gain(result.tests, plain.tests)
    if difference is None:
        return None
    without = published.best("finetune")
    with_it = published.at(result.kind, without.lr) if without else None
    reference = f" AlexNet experiment: {with_it.test - without.test:+.1f} points." if without and with_it else ""
    return Finding(
        text=f"{TITLES[result.kind].capitalize()}: test accuracy {percent(result.test)}. Difference to no "
        f"augmentation: {change(difference)}.{reference}",
        n=difference.n,
    )


def _crops(plain: RateResult, accuracy: Mapping[str, float]) -> Finding:
    cropped = {run.seed: 100 * accuracy[f"finetune-lr{run.lr:g}-seed{run.seed}"] for run in plain.runs}
    difference = over_seeds({seed: cropped[seed] - test for seed, test in plain.tests.items()})
    return Finding(
        text=f"Tested on ten crops per image, the same networks reach {percent(over_seeds(cropped))} instead of "
        f"{percent(plain.test)}: {change(difference)}. AlexNet experiment: 87.2 % instead of 87.1 %.",
        n=difference.n,
    )

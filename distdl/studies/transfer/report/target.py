"""The target set: its classes, their images, and samples."""

from collections.abc import Mapping

from distdl.core.regular import read_regular
from distdl.report.content import Axis, Figure, Finding, Picture, PlotLayer, Section, Table
from distdl.studies.base import Outcome
from distdl.studies.transfer.tasks import PICTURE


def section(outcome: Outcome | None) -> Section | None:
    """Describe the data set by numbers and pictures; None before the trial `target` is completed."""
    if not outcome or not outcome.completed:
        return None
    result = outcome.result
    images: Mapping[str, list[int]] = result["images"]
    totals = [sum(counts) for counts in zip(*images.values(), strict=True)]
    listed = ", ".join(f"{sum(counts):,} {part}" for part, counts in images.items())
    picture = outcome.folder / PICTURE
    samples = (
        (Picture(name="target-samples", title="Samples of classes", png=read_regular(picture)),)
        if picture.exists()
        else ()
    )
    return Section(
        title="The target set",
        text=" ".join(result["notes"]),
        parts=(
            Finding(
                text=f"{result['name']} has {len(totals)} classes with {min(totals)} to {max(totals)} images each: "
                f"{sum(totals):,} in total ({listed}).",
                n=0,
            ),
            Figure(
                name="target-histogram",
                title="Images by class",
                x=Axis(title="class", scale="category"),
                y=Axis(title="images"),
                layers=(
                    PlotLayer(mark="bars", data={"class": result["classes"], "images": totals}, x="class", y="images"),
                ),
            ),
            Table(
                name="target-classes",
                title="Images by class and split",
                columns=("class", *images),
                rows=tuple(zip(result["classes"], *images.values(), strict=True)),
            ),
            *samples,
        ),
    )

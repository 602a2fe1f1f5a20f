"""Results of study `weak`: accuracy on the clean task by sampling and noise."""

from collections.abc import Iterator, Mapping, Sequence

from distdl.core.format import Cell
from distdl.core.statistics import above_zero, gain, over_seeds, points
from distdl.report.content import Axis, Figure, Finding, PlotLayer, Section, Table
from distdl.report.sentences import NOT_SIGNIFICANT
from distdl.studies.base import Outcome
from distdl.studies.runner.accuracy import by_seed, cells, percent

SamplingAndNoise = tuple[str, float]
"""Sampling and noise."""
BySeed = dict[int, float]

PAPER_NOISE = {0.1: "less than 1 point", 0.25: "about 2 points"}
"""Accuracy lost in the paper, on ImageNet, by replacing a share of the tags."""


def name(part: str, sampling: str, noise: float, seed: int) -> str:
    """Name of a trial."""
    return f"{part}-{sampling}-noise{noise:g}-seed{seed}"


def tags_section(outcomes: Sequence[Outcome | None]) -> Section | None:
    """Describe the long tail by the tags of the first seed; other seeds differ only in the order of the classes."""
    result = next((outcome.result for outcome in outcomes if outcome and outcome.completed), None)
    if not result:
        return None
    counts = [count for count in result["images_by_tag"] if count]
    return Section(
        title="The tags",
        text=f"{result['images']:,} images with {result['tags_an_image']:.2f} tags each on average; each of k tags of "
        f"an image has a target probability of 1/k. The most frequent class has {result['images_by_class'][0]:,} "
        f"images, the rarest {result['images_by_class'][-1]:,}.",
        parts=(
            Figure(
                name="tags",
                title="Images by tag, most frequent first",
                x=Axis(title="rank of the tag", scale="log"),
                y=Axis(title="images", scale="log"),
                layers=(
                    PlotLayer(
                        mark="points",
                        data={"rank": list(range(1, len(counts) + 1)), "images": counts},
                        x="rank",
                        y="images",
                    ),
                ),
            ),
            Table(
                name="replicas",
                title="Samples per epoch, including repetitions",
                columns=("sampling", "noise (%)", "samples"),
                rows=tuple((row["sampling"], 100 * row["noise"], row["samples"]) for row in result["sizes"]),
                note="All trainings have the same number of steps.",
            ),
        ),
    )


def section(
    transfer: str,
    choices: Sequence[SamplingAndNoise],
    noise_sampling: str,
    seeds: Sequence[int],
    outcomes: Mapping[str, Outcome],
) -> Section | None:
    """Return the results of one kind of transfer; None while there are none."""
    done = {choice: _by_seed(transfer, choice, seeds, outcomes) for choice in choices}
    done = {choice: values for choice, values in done.items() if values}
    scratch = by_seed({seed: outcomes.get(f"scratch-seed{seed}") for seed in seeds})
    if not done:
        return None
    trained = "A linear classifier on the pre-trained features" if transfer == "features" else "The whole network"
    return Section(
        title=f"Transfer to the clean task: {transfer}",
        text=f"{trained} is trained on the few images of the clean task and tested on all test images of the data set.",
        parts=(
            *_samplings(done),
            *_noises(done, noise_sampling),
            *_scratch(done, scratch),
            *_figures(transfer, done, scratch, noise_sampling),
            _table(transfer, done, scratch, seeds, outcomes),
        ),
    )


def _by_seed(part: str, choice: SamplingAndNoise, seeds: Sequence[int], outcomes: Mapping[str, Outcome]) -> BySeed:
    return by_seed({seed: outcomes.get(name(part, *choice, seed)) for seed in seeds})


def _samplings(done: Mapping[SamplingAndNoise, BySeed]) -> Iterator[Finding]:
    natural = done.get(("natural", 0.0), {})
    others = {sampling: values for (sampling, noise), values in done.items() if not noise and sampling != "natural"}
    gains = {sampling: more for sampling, values in others.items() if natural and (more := gain(values, natural))}
    if not gains:
        return
    best = max(gains, key=lambda sampling: gains[sampling].mean)
    listed = "; ".join(
        f"{sampling} {percent(over_seeds(others[sampling]))}, a difference of {points(more)}"
        for sampling, more in gains.items()
    )
    verdict = "is significantly better than natural sampling"
    yield Finding(
        text=f"Natural sampling reaches {percent(over_seeds(natural))}; {listed}, paired by seed. "
        + (f"{best.capitalize()} {verdict}" if above_zero(gains[best]) else f"No other sampling {verdict}")
        + "; in the paper natural sampling is 5 to 6 points worse than the others.",
        n=gains[best].n,
        holds=above_zero(gains[best]),
    )
    if more := gain(others.get("square-root", {}), others.get("uniform", {})):
        yield Finding(
            text=f"Difference of square-root and uniform sampling: {points(more)}, "
            + ("which is significant." if more.excludes_zero else f"{NOT_SIGNIFICANT}."),
            n=more.n,
        )


def _noises(done: Mapping[SamplingAndNoise, BySeed], sampling: str) -> Iterator[Finding]:
    clean = done.get((sampling, 0.0))
    for (sampled_by, noise), values in sorted(done.items(), key=lambda item: item[0][1]):
        if sampled_by != sampling or not noise or not clean or not (cost := gain(clean, values)):
            continue
        paper = f"; in the paper {PAPER_NOISE[noise]}" if noise in PAPER_NOISE else ""
        limit = {0.1: 1.0, 0.25: 3.0}.get(noise)
        yield Finding(
            text=f"Replacing {noise:.0%} of the tags costs {points(cost).lstrip('+')} of accuracy{paper}.",
            n=cost.n,
            holds=None if limit is None or cost.n < 2 else cost.low <= limit,
        )


def _scratch(done: Mapping[SamplingAndNoise, BySeed], scratch: BySeed) -> Iterator[Finding]:
    best = max(done, key=lambda choice: over_seeds(done[choice]).mean)
    if more := gain(done[best], scratch):
        noise = f" with {best[1]:.0%} noise" if best[1] else ""
        yield Finding(
            text=f"Pre-training on tags ({best[0]}{noise}) reaches {percent(over_seeds(done[best]))}, training on the "
            f"clean images only {percent(over_seeds(scratch))}. Difference, paired by seed: {points(more)}.",
            n=more.n,
            holds=above_zero(more),
        )


def _figures(
    transfer: str, done: Mapping[SamplingAndNoise, BySeed], scratch: BySeed, noise_sampling: str
) -> Iterator[Figure]:
    sampled = [(sampling, over_seeds(values)) for (sampling, noise), values in done.items() if not noise]
    noisy = sorted(
        (100 * noise, over_seeds(values)) for (sampling, noise), values in done.items() if sampling == noise_sampling
    )
    rule = {"accuracy": [over_seeds(scratch).mean], "training": ["from scratch"]} if scratch else None
    for kind, title, axis, rows, mark in (
        ("sampling", "sampling of the tags", Axis(title="sampling", scale="category"), sampled, "bars"),
        ("noise", "noise of the tags", Axis(title="tags replaced (%)"), noisy, "line"),
    ):
        if not rows:
            continue
        data = {
            kind: [place for place, _ in rows],
            "accuracy": [value.mean for _, value in rows],
            "low": [value.ends[0] for _, value in rows],
            "high": [value.ends[1] for _, value in rows],
        }
        marks = (PlotLayer(mark=mark, data=data, x=kind, y="accuracy"),) if mark == "line" else ()
        whiskers = PlotLayer(mark="points", data=data, x=kind, y="accuracy", low="low", high="high")
        across = (PlotLayer(mark="rule", data=rule, y="accuracy", series="training"),) if rule else ()
        yield Figure(
            name=f"{transfer}-{kind}",
            title=f"Accuracy on the clean task by {title} ({transfer})",
            x=axis,
            y=Axis(title="test accuracy (%)"),
            layers=(*across, *marks, whiskers),
            caption="Means and 95 % confidence intervals over the seeds. Horizontal line: clean images only.",
        )


def _table(
    transfer: str,
    done: Mapping[SamplingAndNoise, BySeed],
    scratch: BySeed,
    seeds: Sequence[int],
    outcomes: Mapping[str, Outcome],
) -> Table:
    rows: list[tuple[Cell, ...]] = [("none", None, None, *cells(over_seeds(scratch) if scratch else None))]
    for (sampling, noise), values in done.items():
        pretrained = _by_seed("pretrain", (sampling, noise), seeds, outcomes)
        zero_shot = round(over_seeds(pretrained).mean, 2) if pretrained else None
        rows.append((sampling, 100 * noise, zero_shot, *cells(over_seeds(values))))
    return Table(
        name=transfer,
        title=f"Accuracy on the clean task ({transfer})",
        columns=("pre-training", "noise (%)", "by tags only (%)", "accuracy (%)", "low", "high", "n"),
        rows=tuple(rows),
        note="by tags only: accuracy before the transfer; an image counts as correct if the most likely tag is the "
        "first tag of its class. low and high: 95 % confidence interval over the seeds.",
    )

"""Error of the speed models on held-out configurations, and coverage of their intervals.

On simulated clusters with known costs (benchmarks/clusters.py) and, if the files are given, on public measurements:

- left out: each configuration, predicted by a fit to all others (leave-one-out cross-validation);
- 30 %: a random 30 % of the configurations, predicted by a fit to the rest, including the selection of the form;
- ten: all others, predicted by a fit to ten random configurations (median of the draws in which ten suffice).

    python benchmarks/speed_models.py [--draws 20] [--dl2 config_speed.txt] [--adaptdl traces/]

config_speed.txt is that of github.com/pengyanghua/DL2 (MXNet's parameter server, rows of model, mode, batch size,
servers, workers, images/s per worker); traces/ holds folders with a placements.csv each, as in
github.com/petuum/adaptdl under simulator/traces. Neither is part of this repository.
"""

import argparse
import ast
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from clusters import MODELS, replicas, servers
from timing import markdown_table, write_result

from distdl.perf.speed import fit_speed, optimus
from distdl.perf.speed.form import Form
from distdl.perf.speed.forms import published_form
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements
from distdl.perf.speed.pollux import POLLUX
from distdl.perf.speed.solver import Unidentifiable
from distdl.perf.speed.speed_fit import SpeedFit, fit_form


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20, help="random subsets")
    parser.add_argument("--dl2", type=Path, help="public measurements under a parameter server")
    parser.add_argument("--adaptdl", type=Path, help="public measurements under all-reduce")
    options = parser.parse_args()
    parts = [
        "## Intervals\n\nShare of 200 draws with 5 % noise whose 95 % interval contains the true coefficient.\n\n"
        + coverage(),
        *(
            f"## Simulated clusters, {noise:.0%} noise\n\n" + compare(simulated(noise), options.draws)
            for noise in (0.05, 0.02)
        ),
    ]
    if options.dl2:
        parts.append("## Public measurements: parameter server\n\n" + compare(read_dl2(options.dl2), options.draws))
    if options.adaptdl:
        parts.append("## Public measurements: all-reduce\n\n" + compare(read_adaptdl(options.adaptdl), options.draws))
    print(write_result("speed_models", "cpu", "\n\n".join([NOTE, *parts]), "numpy", "scipy"))


NOTE = """Mean absolute relative error of predicted step times. "published" is Optimus' form for parameter servers, in
the mode of the cluster, and Pollux' form for all-reduce; `auto` is fitted without knowing the mode. Ratio: error of
`auto` / error of the published form."""


def simulated(noise: float) -> Iterator[tuple[str, str, Measurements]]:
    for number, model in enumerate(MODELS):
        for mode in ("sync", "async"):
            yield (
                f"{model.name}, {mode}",
                "optimus-sync" if mode == "sync" else "optimus-async",
                servers(model, mode, number, noise=noise),
            )
    for number, model in enumerate(MODELS[:3]):
        yield f"{model.name}, all-reduce", "pollux", replicas(model, number, noise=noise)


def read_dl2(file: Path) -> Iterator[tuple[str, str, Measurements]]:
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        model, mode, batch, p, w, speeds, *_ = ast.literal_eval(line)
        if sum(speeds) > 0:  # a run that failed is recorded with no images
            rows.setdefault((model, mode), []).append((p, w, batch, batch / sum(speeds)))
    for (model, mode), measured in rows.items():
        table = np.array(measured, float)
        form: str = "optimus-sync" if mode.endswith("_sync") else "optimus-async"
        yield (
            f"{model}, {mode}",
            form,
            Measurements(placements=Placements(kind="servers", points=table[:, :3]), step_s=table[:, 3]),
        )


def read_adaptdl(folder: Path) -> Iterator[tuple[str, str, Measurements]]:
    for file in sorted(folder.glob("*/placements.csv")):
        with file.open(encoding="utf-8") as source:
            rows = [
                (
                    len(row["placement"]),
                    sum(map(int, row["placement"])),
                    float(row["local_bsz"]),
                    float(row["step_time"]),
                )
                for row in csv.DictReader(source)
            ]
        table = np.array(rows, float)
        yield (
            file.parent.name,
            "pollux",
            Measurements(placements=Placements(kind="replicas", points=table[:, :3]), step_s=table[:, 3]),
        )


def compare(cases: Iterator[tuple[str, str, Measurements]], draws: int) -> str:
    rows, ratios = [], []
    for name, form, data in cases:
        cells, case_ratios = [], []
        for published, auto in (left_out(data, form), split(data, form, draws // 4), from_ten(data, form, draws)):
            cells += [f"{published:.1%}", f"{auto:.1%}", f"{auto / published:.2f}"]
            case_ratios.append(auto / published)
        rows.append([name, str(len(data)), *cells])
        ratios.append(case_ratios)
        print(" | ".join(rows[-1]), flush=True)
    mean = np.mean(ratios, 0)
    rows.append(["mean", "", *(cell for ratio in mean for cell in ("", "", f"**{ratio:.2f}**"))])
    header = ["cluster", "n", "left out: published", "auto", "ratio", "30 %: published", "auto", "ratio"]
    return markdown_table([*header, "ten: published", "auto", "ratio"], rows)


def left_out(data: Measurements, form: str) -> tuple[float, float]:
    return fit_speed(data, form).held_out_mape, fit_speed(data, "auto").held_out_mape


def split(data: Measurements, form: str, draws: int) -> tuple[float, float]:
    number, errors = data.configurations, []
    for seed in range(draws):
        known = np.random.default_rng(seed).random(number.max() + 1)[number] < 0.7
        errors.append([error(fit_speed(data.take(known), name), data.take(~known)) for name in (form, "auto")])
    published, auto = np.mean(errors, 0)
    return published, auto


def from_ten(data: Measurements, form: str, draws: int) -> tuple[float, float]:
    """Return median errors. Fits of Pollux' form count even if refused, since ten points rarely determine it."""
    errors, seed = [], 0
    while len(errors) < draws and seed < 5 * draws:
        order = np.random.default_rng(seed).permutation(len(data))
        few, rest, seed = data.take(order[:10]), data.take(order[10:]), seed + 1
        try:
            auto = fit_speed(few, "auto")
        except Unidentifiable:
            continue
        chosen = published_form(form).measured_terms(few)
        errors.append([error(fit_form(chosen, few), rest), error(auto, rest)])
    published, auto_error = np.median(errors, 0)
    return published, auto_error


def error(fit: SpeedFit, data: Measurements) -> float:
    return float(np.abs(fit.predict(data.placements).step_s / data.step_s - 1).mean())


def coverage(draws: int = 200) -> str:
    grid = np.array([(p, w, 40) for p in (1, 2, 4, 8) for w in (1, 2, 4, 8, 16)], float)
    small = np.array([(p, w, 128) for p in (1, 2, 4) for w in (1, 2, 4, 8)], float)
    shapes = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (2, 8), (4, 8), (4, 16)]
    reduce = np.array([(n, k, m) for n, k in shapes for m in (16, 32, 64, 128, 256)], float)
    published = list(optimus.PUBLISHED_SYNC.values())
    cases: list[tuple[Form, np.ndarray, list[float], float | None]] = [
        (optimus.SYNC, grid, published, None),
        (optimus.SYNC, small, [0.01, 0.1, 0.5, 0.03, 0.02], None),
        (optimus.ASYNC, grid, list(optimus.UNCONFIRMED_ASYNC.values()), None),
        (POLLUX, reduce, [0.02, 0.002, 0.01, 0.003, 0.08, 0.01], 1.5),
        (POLLUX, reduce, [0.02, 0.002, 0.01, 0.003, 0.08, 0.01], 5.0),
    ]
    rows = []
    for form, points, theta, overlap in cases:
        truth = dict(zip(form.names, theta, strict=True)) | ({"gamma": overlap} if overlap else {})
        placements = Placements(kind=form.kind, points=points)
        exact, hits = form.at(placements).time(np.array(theta), overlap or 1.0), dict.fromkeys(truth, 0)
        for seed in range(draws):
            noise = 1 + 0.05 * np.random.default_rng(seed).standard_normal(len(points))
            data = Measurements(placements=placements, step_s=exact * noise)
            for name, (low, high) in fit_form(form, data).intervals.items():
                hits[name] += low <= truth[name] <= high
        shares = ", ".join(f"{name} {count / draws:.1%}" for name, count in hits.items())
        rows.append([form.name, str(len(points)), shares, f"{min(hits.values()) / draws:.1%}"])
    return markdown_table(["form", "points", "coefficients", "least"], rows)


if __name__ == "__main__":
    main()

"""Speed models fitted to parameter-server runs on links of known bandwidth, compared with the known coefficient.

On links of 200 Mbit/s and 1 Gbit/s (network namespaces; needs root) the strategy `ps` trains a CNN of 3,274,634
parameters synchronously with 1, 2, 4 servers x 1, 2, 4, 8 workers and a global batch size of 64; each is a separate
host. Compute is replayed: first a run at each worker's batch size is recorded, then workers wait for times sampled
from it, and every byte is sent. The known coefficient is t2 = 2 S / B.

    python benchmarks/ps_ground_truth.py [--out runs/ps-ground-truth] [--budget-s 280]

Each configuration is a run folder under --out; existing ones are not run again. After --budget-s seconds no further run
is started; call again to continue. When all are complete, the results are written.
"""

import argparse
import csv
import itertools
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import ranks
from timing import markdown_table, write_result

from distdl.launchers.netns import Hosts, parse_rate
from distdl.perf.speed import fit_speed, optimus
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.read_speeds import read

RATES = {"1gbit": 20, "200mbit": 8}
"""Steps of a run on links of each rate."""
SERVERS, WORKERS, BATCH = (1, 2, 4), (1, 2, 4, 8), 64
PARAMETER_BYTES = 3_274_634 * 4
OPTIONS = (
    *("--strategy", "ps", "--model.name", "mnist-cnn", "--data.image-size", "28"),
    *("--data.loader", "synthetic", "--data.drop-last", "--optim.name", "sgd", "--optim.lr", "0.001"),
    *("--optim.momentum", "0.9", "--optim.weight-decay", "0", "--schedule.name", "constant", "--epochs", "100"),
    *("--evaluate-every", "1000", "--checkpoint.every-epochs", "0", "--progress", "none", "--telemetry.hz", "0"),
    *("--compute.threads", "1", "--compute.device", "cpu", "--ps.timeout-s", "120"),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One configuration on links of one bandwidth; without a bandwidth, a recording of one worker on loopback."""

    rate: str = ""
    servers: int = 1
    workers: int = 1
    batch: int
    """Batch of each worker."""
    steps: int

    @property
    def name(self) -> str:
        return f"{self.rate}-p{self.servers}-w{self.workers}" if self.rate else f"record-b{self.batch}"


def runs() -> list[Run]:
    """Return the recordings, then all configurations."""
    recordings = [Run(batch=BATCH // w, steps=60) for w in WORKERS]
    return recordings + [
        Run(rate=rate, servers=p, workers=w, batch=BATCH // w, steps=steps)
        for (rate, steps), p, w in itertools.product(RATES.items(), SERVERS, WORKERS)
    ]


def train(rank: int, argv: list[str]) -> int:
    """Run the training of a rank. Returns its exit code."""
    from distdl.cli.train import main

    return main(argv)


def do(run: Run, out: Path) -> None:
    """Run one configuration into out/NAME."""
    folder = out / run.name
    shutil.rmtree(folder, ignore_errors=True)
    argv = [*OPTIONS, "--out", str(folder.resolve()), "--max-steps", str(run.steps)]
    argv += ["--data.batch-size", str(run.batch), "--ps.servers", str(run.servers)]
    number = run.workers + run.servers
    if run.rate:
        argv += ["--ps.compute", f"replay:{out.resolve() / f'record-b{run.batch}' / 'ps' / 'worker-0.jsonl'}"]
        with Hosts(count=number, rate=run.rate) as hosts:
            codes = ranks.run(train, argv, ranks=number, hosts=hosts)
    else:
        codes = ranks.run(train, argv, ranks=number)
    if any(codes):
        raise SystemExit(f"{run.name}: exit codes {codes}")


def done(run: Run, out: Path) -> bool:
    file = out / run.name / "result.json"
    return file.exists() and json.loads(file.read_text(encoding="utf-8"))["status"] == "completed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ps-ground-truth"))
    parser.add_argument("--budget-s", type=float, default=float("inf"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start, remaining = time.monotonic(), [run for run in runs() if not done(run, options.out)]
    for number, run in enumerate(remaining):
        if time.monotonic() - start > options.budget_s:
            raise SystemExit(f"{len(remaining) - number} runs are left: call again to continue")
        run_start = time.monotonic()
        do(run, options.out)
        result = json.loads((options.out / run.name / "result.json").read_text(encoding="utf-8"))
        step_s, took = result["ps"]["medians"]["step_s"], time.monotonic() - run_start
        print(f"{run.name:<16} {step_s * 1e3:8.1f} ms per step, {took:.0f} s in all", flush=True)
    text = report({rate: points(rate, options.out) for rate in RATES})
    print(text)
    file = write_result("ps_ground_truth", "cpu", text, "torch", "numpy", "scipy")
    write_points(file.with_suffix(".csv"), options.out)
    print(file)


def points(rate: str, out: Path) -> Measurements:
    """Measurements of the run folders of one rate, as `distdl fit speed RUNS...` reads them."""
    return read([out / run.name for run in runs() if run.rate == rate])


def report(measured: dict[str, Measurements]) -> str:
    """Fits and known values, and each configuration's time with the prediction by a fit to the others."""
    known, errors, times = [], [], []
    for rate, data in measured.items():
        bytes_per_s = parse_rate(rate) / 8
        t2 = optimus.network_t2(PARAMETER_BYTES, bytes_per_s)
        p, w = data.placements.servers, data.placements.workers
        fit_all = fit_speed(data, "optimus-sync")
        bound = fit_speed(data.take(w >= p), "optimus-sync")
        auto = fit_speed(data, "auto")
        informed = fit_speed(data, "auto", parameter_bytes=PARAMETER_BYTES, bytes_per_s=bytes_per_s)
        for name, fit in (("all", fit_all), ("w >= p", bound)):
            got, (low, high) = fit.coefficients["t2"], fit.intervals["t2"]
            known.append(
                [
                    rate,
                    f"{name} ({len(fit.data)})",
                    f"{t2:.4f}",
                    f"{got:.4f} ({low:.4f} to {high:.4f})",
                    f"{got / t2 - 1:+.1%}",
                ]
            )
        errors.append([rate, *(f"{fit.held_out_mape:.1%}" for fit in (fit_all, bound, auto, informed))])
        for row, (servers, workers, _) in enumerate(data.points):
            predicted = [f"{fit.held_out[row]:+.1%}" for fit in (fit_all, auto, informed)]
            times.append([rate, f"{servers:.0f}", f"{workers:.0f}", f"{data.step_s[row] * 1e3:.1f}", *predicted])
    header = ["link", "fitted to", "2 S / B (s)", "t2 fitted (95 %)", "off by"]
    parts = [
        (
            f"S = {PARAMETER_BYTES / 1e6:.1f} MB. Compute is replayed, communication real. Held out: each "
            "configuration, predicted by a fit to all others."
        ),
        READ,
        "## t2\n\n" + markdown_table(header, known),
        "## Mean error of held-out step times\n\n" + markdown_table(["link", *FITS], errors),
        "## Configurations\n\n"
        + markdown_table(
            ["link", "servers", "workers", "ms per step", "Optimus off", "auto off", "auto, given, off"], times
        ),
    ]
    return "\n\n".join(parts)


FITS = ("Optimus", "Optimus, w >= p", "auto", "auto, S and B given")
READ = """\
A worker's link transfers all parameters in each direction for any number of servers. With fewer workers than servers it
is the bottleneck, which Optimus' w / p ignores. Therefore its form is fitted twice: to all configurations, and to those
with at least as many workers as servers. `auto` has a candidate with max(w / p, 1) instead (`link`). A point is the
median of 17 steps (1 Gbit/s) or 5 (200 Mbit/s) of worker 0. Headers of TCP, IP and Ethernet take 4.4 % of a link's
bandwidth: with them t2 is 4.6 % above 2 S / B."""


def write_points(file: Path, out: Path) -> None:
    """The points, as `distdl fit speed` reads them (one rate at a time), with worker 0's medians."""
    with file.open("w", newline="", encoding="utf-8") as sink:
        table = csv.writer(sink, lineterminator="\n")
        table.writerow(["rate", "servers", "workers", "batch_size", "step_s", "push_s", "wait_s", "pull_s", "replayed"])
        for run in runs():
            if not run.rate:
                continue
            result = json.loads((out / run.name / "result.json").read_text(encoding="utf-8"))
            medians = result["ps"]["medians"]
            seconds = [f"{medians[name]:.6f}" for name in ("step_s", "push_s", "wait_s", "pull_s")]
            row = [run.rate, run.servers, run.workers, result["global_batch"], *seconds, result["ps"]["replayed"]]
            table.writerow(row)


if __name__ == "__main__":
    main()

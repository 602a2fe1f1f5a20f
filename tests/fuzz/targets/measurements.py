"""Measured step times and losses (CSV, metrics.jsonl, result.json), and the JSON of a fit."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np

from distdl.cli.fit_speed import speed
from distdl.perf.learning.read_losses import read_losses
from distdl.perf.speed import predict
from distdl.perf.speed.read_speeds import read, read_csv
from fuzz.run import Target


def seeds(folder: Path) -> dict[str, bytes]:
    speeds = ["servers,workers,batch_size,steps_per_s"]
    speeds += [
        f"{p},{w},{batch},{1 / (1e-3 * batch / w + 0.02 * w / p + 0.01 * w + 0.01 * p + 0.05):.6g}"
        for p in (1, 2, 3)
        for w in (1, 2, 4, 6)
        for batch in (96, 384)
    ]
    losses = ["step,loss,lr", *(f"{step},{2 / (0.01 * step + 1) + 0.1:.5f},0.1" for step in range(0, 400, 10))]
    rows = [json.dumps({"kind": "train", "step": step, "loss": 1 / (step + 1), "lr": 0.1}) for step in range(40)]
    (folder / "speeds.csv").write_text("\n".join(speeds), encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        speed((folder / "speeds.csv",), form="optimus-sync", as_json=True)
    (folder / "fit.json").write_text(printed.getvalue(), encoding="utf-8")
    result = {"world_size": 2, "steps": 100, "train_s": 12.5, "global_batch": 64, "phases_s": {"exchange": 1.5}}
    return {
        "speeds.csv": "\r\n".join(speeds).encode(),
        "losses.csv": ("\ufeff" + "\n".join(losses)).encode(),
        "metrics.jsonl": "\n".join(rows).encode(),
        "result.json": json.dumps(result, indent=2).encode(),
        "fit.json": printed.getvalue().encode(),
    }


def check(folder: Path, name: str, content: bytes) -> None:
    """Values are finite and positive; a fit that is read predicts the configurations that it was fitted to."""
    file = folder / name
    file.write_bytes(content)
    match name:
        case "speeds.csv":
            data = read_csv(file)
            assert len(data) and np.isfinite(data.points).all() and (data.points >= 1).all()
            assert np.isfinite(data.step_s).all() and (data.step_s > 0).all()
        case "result.json":
            assert 0 < read([folder]).step_s[0] < np.inf
        case "fit.json":
            fit = predict.load(file)
            rows = predict.predict_speed(fit, [[1, 2], [2, 4]], [128, 256])
            assert all(0 < row.low_s <= row.step_s <= row.high_s for row in rows)
            original = predict.load(folder.parent / "fit.json")
            assert np.allclose(fit.theta, original.theta), "other coefficients"
        case _:
            steps, losses, _ = read_losses(file)
            assert (np.diff(steps) > 0).all() and np.isfinite(losses).all() and (losses > 0).all()


TARGET = Target(seeds=seeds, check=check, share=10)

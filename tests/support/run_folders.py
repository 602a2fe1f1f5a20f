"""Run folders as `distdl train` writes them, of any length, without training."""

import json
import math
from pathlib import Path
from typing import Any

from distdl.core.config import Config
from distdl.core.phases import PHASES
from distdl.core.profiles import as_table


def tree(folder: Path) -> dict[str, tuple[bytes, int] | None]:
    """Content and modification time of every file under `folder`, by relative name; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def write_run(
    path: Path, *, rows: int = 60, name: str = "digits", gpu: bool = True, ended: bool = True, samples: int = 30
) -> Path:
    """Write the folder of a run of 10 epochs: metrics, telemetry, result and configuration."""
    import tomli_w

    path.mkdir(parents=True)
    table = as_table(Config(), "single") | {"name": name}
    table["optim"]["lr"] = 0.01
    (path / "config.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    machine = {
        "command": ["distdl", "train", "--profile", "digits"],
        "host": "node1",
        "cores": 2,
        "gpus": ["H200"] * gpu,
    }
    (path / "environment.json").write_text(json.dumps(machine), encoding="utf-8")
    lines = [json.dumps(row) for row in _metrics(rows)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [json.dumps(row) for row in _telemetry(samples, gpu=gpu)]
    (path / "telemetry.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if ended:
        (path / "result.json").write_text(json.dumps(result(name, rows, gpu=gpu)), encoding="utf-8")
    return path


def _metrics(steps: int) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        epoch = 10 * step / steps
        spent = {name: step * (1 + index) * 1e-3 for index, name in enumerate(PHASES)}
        loss = 2.3 * math.exp(-epoch / 3) * (1 + 0.2 * math.sin(step * 7.3))
        row = {"time_s": step * 0.025, "step": step, "epoch": epoch, "kind": "train", "loss": loss, "lr": 0.01}
        rows.append(row | {"images_per_s": 9000.0 + step % 13, "phases_s": spent})
        if step % max(steps // 10, 1) == 0:
            tested = {"kind": "test", "accuracy": 1 - 0.5 * math.exp(-epoch), "loss": loss}
            rows.append({"time_s": step * 0.025, "step": step, "epoch": epoch} | tested)
    return rows


def _telemetry(samples: int, *, gpu: bool) -> list[dict[str, Any]]:
    rows = []
    for second in range(samples):
        place = {"time_s": 1.7e9 + second, "step": second, "epoch": 0, "rank": 0, "host": "node1"}
        rows.append(place | {"kind": "host", "cpu_percent": 50.0 + second % 7, "memory_used_bytes": 2**31 + second})
        if gpu:
            sample = {"kind": "nvml", "device": "GPU-1", "busy_percent": 90 + second % 5, "power_w": 300.0 + second % 9}
            rows.append(place | sample | {"sm_active_percent": 70.0, "memory_used_bytes": 2**33, "temperature_c": 50})
    return rows


def result(name: str, steps: int, *, gpu: bool) -> dict[str, Any]:
    """Content of result.json."""
    phases = {phase: steps * (1 + index) * 1e-3 for index, phase in enumerate(PHASES)}
    return {
        "status": "completed",
        "name": name,
        "test": {"accuracy": 0.9556, "loss": 0.1365},
        "epochs": 10,
        "steps": steps,
        "world_size": 1,
        "strategy": "single",
        "device": "cuda" if gpu else "cpu",
        "global_batch": 32,
        "train_s": steps * 0.025,
        "evaluate_s": 0.2,
        "checkpoint_s": 0.1,
        "start_s": 2.0,
        "warm_s": 0.01,
        "held_s": steps * 0.025 + 2.4,
        "images_per_s": 9499.0,
        "phases_s": phases,
        "energy_j": 1234.5,
        "idle_share": 0.12,
        "idle_of": "gpu" if gpu else "cpu",
        "flops_per_step": 6.4e7,
        "peak_flops_per_s": 9.89e14 if gpu else None,
        "utilisation": {"device": "h200", "precision": "bf16", "mfu": 0.123},
    }

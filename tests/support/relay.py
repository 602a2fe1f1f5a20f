"""A study for tests of the runner: its trials detect if they are started twice or at the same time, and can fail.

Registered by `register`, as an installed package would be.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core.errors import UserError
from distdl.core.profiles import Recipe
from distdl.report.content import Finding, Section
from distdl.studies.base import Outcome, Study, Trial

TRAINING = Recipe(
    profile="digits",
    overrides={
        "compute.threads": 1,
        "telemetry.hz": 0,
        "progress": "none",
        "epochs": 5000,
        "checkpoint.every_steps": 10,
    },
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers and properties of the trials."""

    calls: int = 3
    """Trials that call `wait`."""
    trainings: int = 0
    """Trials that train on one rank; every second of them on two."""
    seconds: float = 0.0
    """Duration of each call."""
    steps: int = 30
    """Steps of each training."""
    fails: tuple[str, ...] = ()
    """Names of calls that fail."""
    silent: tuple[str, ...] = ()
    """Names of calls that exit with 0 and return nothing."""
    data: str = "digits"
    """Data set of the trainings."""
    strategy: str = "auto"
    """Strategy of the trainings."""
    chain: bool = False
    """Whether each call depends on the previous one."""


def trials(settings: Settings) -> list[Trial]:
    listed = [
        Trial(
            name=f"call{index}",
            call="relay:wait",
            settings={
                "seconds": settings.seconds,
                "fail": f"call{index}" in settings.fails,
                "silent": f"call{index}" in settings.silent,
            },
            after=(f"call{index - 1}",) if settings.chain and index else (),
        )
        for index in range(settings.calls)
    ]
    training = TRAINING.updated(
        {"max_steps": settings.steps, "data.name": settings.data, "strategy": settings.strategy}
    )
    listed += [
        Trial(name=f"train{index}", recipe=training.updated({"seed": index}), ranks=1 + index % 2)
        for index in range(settings.trainings)
    ]
    return listed


def wait(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Wait, and record violations in the journal of the study."""
    if (folder / "result.json").exists():
        _journal(folder, "again")
    with (folder / "inside").open("a") as inside:
        try:
            fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _journal(folder, "twice at the same time")
        _journal(folder, "begin")
        end_time = time.monotonic() + table["seconds"]
        while time.monotonic() < end_time:
            time.sleep(0.01)
        if table["fail"]:
            raise UserError("this trial fails, as requested")
        if table["silent"]:
            sys.exit(0)
        return {"cores": sorted(os.sched_getaffinity(0)), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


def _journal(folder: Path, what: str) -> None:
    with (folder.parents[1] / "journal.jsonl").open("a", encoding="utf-8") as sink:
        sink.write(json.dumps({"trial": folder.name, "what": what, "at": time.time()}) + "\n")


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    done = sum(outcome.completed for outcome in outcomes.values())
    return [Section(title="Relay", parts=(Finding(text=f"{done} trials were completed.", n=done),))]


STUDY = Study(
    name="relay",
    summary="trials that detect errors of the runner",
    settings=Settings,
    quick={"calls": 2},
    trials=trials,
    findings=findings,
)


def register(folder: Path, rows: str = "relay = relay:STUDY") -> dict[str, str]:
    """Write metadata of a package with the studies `rows` into `folder`. Returns the environment to register it."""
    info = folder / "relay-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: relay\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[distdl.studies]\n{rows}\n", encoding="utf-8")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parent}"}

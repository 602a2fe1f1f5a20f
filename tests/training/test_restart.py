"""Resume of a job that torchrun has restarted."""

import json
from pathlib import Path

import pytest

from distdl.core.config import Config
from distdl.training.restart import after_restart

JOB = {"TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "this"}


def run_of(folder: Path, job: str, *, checkpoint: bool) -> Path:
    """Write a run folder that a job has opened."""
    (folder / "checkpoints" / "step-00000004").mkdir(parents=True) if checkpoint else folder.mkdir()
    (folder / "environment.json").write_text(json.dumps({"job": {"TORCHELASTIC_RUN_ID": job}}))
    return folder


@pytest.mark.parametrize(
    ("job", "checkpoint", "resume", "expected"),
    [
        ("this", True, "", "auto"),
        ("this", False, "", "auto"),
        ("this", True, "other", "auto"),
        ("this", False, "other", "other"),
        ("another", True, "", ""),  # refused at the first start and now: the folder has another run
        ("another", True, "other", "other"),
    ],
)
def test_a_restart_resumes_only_a_run_of_its_own_job(
    job: str, checkpoint: bool, resume: str, expected: str, tmp_path: Path
) -> None:
    config = Config(out=run_of(tmp_path / "run", job, checkpoint=checkpoint), resume=resume)
    assert after_restart(config, JOB).resume == expected


def test_a_restart_before_the_folder_was_opened_is_a_new_start(tmp_path: Path) -> None:
    assert after_restart(Config(out=tmp_path / "run"), JOB).resume == ""

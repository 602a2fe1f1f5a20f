"""Automatic resume of a job that its launcher has restarted."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.run_files import CHECKPOINTS, ENVIRONMENT
from distdl.core.userfiles import read_json
from distdl.runtime.launch_env import TorchrunJob, torchrun_job


def after_restart(config: Config, environ: Mapping[str, str]) -> Config:
    """Return the configuration of a job under `torchrun --max-restarts`: a restarted job resumes.

    Raises:
        UserError: without `--out`, because a restart could not find the run folder.
    """
    job = torchrun_job(environ)
    if job.max_restarts and config.out is None:
        raise UserError(
            "torchrun --max-restarts needs --out DIR: a restarted job looks there for its newest checkpoint"
        )
    if config.out is None or not job.restarts or not _entered(config.out, job):
        return config  # the first start was refused: let the restart fail with the same message
    has_checkpoint = any((config.out / CHECKPOINTS).glob("step-*"))
    return dataclasses.replace(config, resume="auto" if has_checkpoint else config.resume or "auto")


def _entered(run: Path, job: TorchrunJob) -> bool:
    """Whether an earlier start of this job has entered the run folder."""
    try:
        entered = torchrun_job(read_json(run / ENVIRONMENT)["job"])
        return entered.run_id == job.run_id != ""
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        return False

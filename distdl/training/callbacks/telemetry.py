"""Joins the sampler to a training, and says at its end what the run used and how well."""

import os
import platform
import time
from functools import partial
from typing import Any

import torch

from distdl.core.errors import reason
from distdl.profiling.kernels import KernelProfile
from distdl.runtime.cores import busy_at_start, cores, warning
from distdl.telemetry.host import HostCounters
from distdl.telemetry.nvml import NvmlDevice, uuid_of
from distdl.telemetry.sampler import Sampler, claim
from distdl.training.events import Callback, Training
from distdl.training.summary import outcome

WARM_STEPS, STEADY_STEPS = 3, 10
"""The first steps compile, tune and fill caches; a step's own time is taken from those between the third and tenth."""


class Telemetry(Callback):
    """On every rank. Of the ranks that share a device or a host one samples it.

    Args:
        began: Unix time from which the run holds its devices: when its process started, if it has one of its own.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._sampler: Sampler | None = None
        self._profile: KernelProfile | None = None
        self._result: dict[str, Any] | None = None
        self._entered = self._ended = 0.0

    def begin(self, trainer: Training) -> None:
        trainer.strategy.barrier()  # rank 0 has put a resumed run's files in order: now others may append to them
        if trainer.config.telemetry.hz and trainer.run.path.is_dir():
            self._start_sampler(trainer)
        sentence = warning(busy_at_start(), cores(trainer.world.local_size))
        if sentence and trainer.world.rank == 0 and not trainer.config.compute.threads:  # else the user has chosen
            trainer.events.warn(trainer, sentence)
        self._entered, self._steps = time.time(), 0
        trainer.seconds["start"] = trainer.seconds.get("start", 0.0) + self._entered - self._began
        self._known_s = _accounted(trainer)
        self._elapsed: dict[int, float] = {0: trainer.progress.elapsed_s}

    def _start_sampler(self, trainer: Training) -> None:
        run, world, host = str(trainer.run.path), trainer.world, platform.node()
        self._claims, sources = [], []
        for kind, find in (("device", lambda: _device_source(world.device)), ("host", lambda: ("host", HostCounters))):
            try:
                name, make = find()
                lock = claim(run, name) if name else None
                if lock is not None:
                    self._claims.append(lock)
                    sources.append(make())
            except Exception as error:  # whatever a driver or /proc does must not end the training
                trainer.events.warn(trainer, f"no telemetry of the {kind}: {reason(error)}")
        if not sources:
            return
        try:
            # Hosts that share a network file system must not append to one file.
            first_host = world.rank == world.local_rank
            self._sampler = Sampler(
                sources,
                trainer.run.telemetry if first_host else partial(trainer.run.telemetry, host=host),
                lambda: (trainer.progress.step, trainer.progress.epoch),
                hz=trainer.config.telemetry.hz,
                labels={"rank": world.rank, "host": host, "pid": os.getpid()},
            )
            self._sampler.start()
        except (RuntimeError, OSError) as error:  # no thread or file is available
            self._sampler = None
            trainer.events.warn(trainer, f"no telemetry: {reason(error)}")

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        # Counted here: whoever drives a trainer may go back in its progress.
        self._steps = done = self._steps + 1
        if done > STEADY_STEPS and self._profile is None:
            return
        if done in (WARM_STEPS, STEADY_STEPS):
            self._elapsed[done] = trainer.progress.elapsed_s
        wanted = trainer.config.telemetry.profile_steps if trainer.world.rank == 0 else 0
        if done == STEADY_STEPS:
            self._count_warm_up(trainer)
            if wanted:
                self._beside_training(trainer, lambda: setattr(self, "_profile", KernelProfile(trainer.world.device)))
        elif self._profile is not None and done == STEADY_STEPS + wanted:
            self._beside_training(trainer, lambda: self._end_profile(trainer, wanted))

    def _count_warm_up(self, trainer: Training) -> None:
        step_s = (self._elapsed[STEADY_STEPS] - self._elapsed[WARM_STEPS]) / (STEADY_STEPS - WARM_STEPS)
        warm_s = max(self._elapsed[WARM_STEPS] - self._elapsed[0] - WARM_STEPS * step_s, 0.0)
        trainer.seconds["warm"] = trainer.seconds.get("warm", 0.0) + warm_s

    @staticmethod
    def _beside_training(trainer: Training, work: Any) -> None:
        since = time.perf_counter()
        work()
        spent_s = time.perf_counter() - since
        trainer.progress.elapsed_s -= spent_s  # the loop will add it
        trainer.seconds["start"] += spent_s

    def _end_profile(self, trainer: Training, steps: int) -> None:
        found, self._profile = self._profile.stop(steps, trainer.run.path / "trace.json"), None
        place = {"time_s": time.time(), "step": trainer.progress.step, "epoch": trainer.progress.epoch}
        trainer.run.telemetry({**place, "kind": "kernels", "rank": 0, **found})

    def close(self, trainer: Training) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        for lock in getattr(self, "_claims", ()):
            lock.close()
        self._ended = time.time()

    def result(self, trainer: Training) -> dict[str, Any]:
        if self._entered and self._ended and self._result is None and trainer.world.rank == 0:
            now_s = _accounted(trainer)
            other_s = (self._ended - self._entered) - (now_s - self._known_s)
            self._result = outcome(trainer, held_s=now_s + max(other_s, 0.0))
        return self._result or {}


def _accounted(trainer: Training) -> float:
    """Seconds of the run that some part accounts for; warm-up is part of training."""
    return trainer.progress.elapsed_s + sum(s for name, s in trainer.seconds.items() if name != "warm")


def _device_source(device: torch.device) -> tuple[str | None, Any]:
    """What the device is claimed by, and how to open it; None where NVML does not know it."""
    if device.type != "cuda":
        return None, None
    index = torch.cuda.current_device() if device.index is None else device.index
    uuid = uuid_of(str(torch.cuda.get_device_properties(index).uuid), index)
    return uuid, lambda: NvmlDevice(uuid)

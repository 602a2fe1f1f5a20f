"""Measurements of a run: samples of devices and host, warm-up time, a kernel profile, and totals."""

import os
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from distdl.core.errors import reason
from distdl.profiling.kernels import KernelProfile
from distdl.runtime.cores import busy_at_start, cores, warning
from distdl.telemetry.host import HostCounters
from distdl.telemetry.nvml import NvmlDevice, uuid_of
from distdl.telemetry.sampler import Sampler, SamplerClaim, TelemetrySource, claim
from distdl.training.events import Callback, Training
from distdl.training.summary import outcome

WARM_STEPS, STEADY_STEPS = 3, 10
"""The first steps compile, autotune and fill caches; the step time is measured from the third step to the tenth."""


Opener = tuple[str, Callable[[], TelemetrySource]]
"""Name by which ranks claim a source, and its constructor."""


def telemetry(start_time: float) -> tuple[Callback, ...]:
    """The callbacks that measure a run, in the order in which they are called.

    Args:
        start_time: Unix time since which the run has held its devices, such as the start time of its process.
    """
    return DeviceSampler(), WarmUp(), KernelTrace(), Accounting(start_time)


class DeviceSampler(Callback):
    """Samples devices and host in a thread. Of the ranks that share a device or a host, one samples it."""

    def __init__(self) -> None:
        self._sampler: Sampler | None = None
        self._claims: list[SamplerClaim] = []

    def begin(self, trainer: Training) -> None:
        trainer.strategy.barrier()  # rank 0 has prepared a resumed run's files: now other ranks may append to them
        if not trainer.config.telemetry.hz or not trainer.run.path.is_dir():
            return
        sources = self._sources(trainer)
        if not sources:
            return
        world, host = trainer.world, platform.node()
        # Hosts that share a network file system must not append to one file.
        is_first_host = world.rank == world.local_rank
        try:
            self._sampler = Sampler(
                sources,
                trainer.run.telemetry if is_first_host else partial(trainer.run.telemetry, host=host),
                lambda: (trainer.progress.step, trainer.progress.epoch),
                hz=trainer.config.telemetry.hz,
                labels={"rank": world.rank, "host": host, "pid": os.getpid()},
            )
            self._sampler.start()
        except (RuntimeError, OSError) as error:  # no thread or file is available
            self._sampler = None
            trainer.events.warn(trainer, f"no telemetry: {reason(error)}")

    def _sources(self, trainer: Training) -> list[TelemetrySource]:
        """Opened sources that no other rank of the run has claimed."""
        sources = []
        for kind, find in (("device", partial(_device_source, trainer.world.device)), ("host", _host_source)):
            try:
                source = find()
                lock = claim(trainer.run.path, source[0]) if source else None
                if source and lock is not None:
                    self._claims.append(lock)
                    sources.append(source[1]())
            except Exception as error:  # an error of a driver or of /proc must not end the training
                trainer.events.warn(trainer, f"no telemetry of the {kind}: {reason(error)}")
        return sources

    def close(self, trainer: Training) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        for lock in self._claims:
            lock.release()


class WarmUp(Callback):
    """Estimates how much longer the first steps took than steady-state steps, as `seconds["warm"]`."""

    def begin(self, trainer: Training) -> None:
        self._steps = 0  # counted here: the trainer's position may move backwards
        self._elapsed_s = {0: trainer.progress.elapsed_s}

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        self._steps += 1
        if self._steps not in (WARM_STEPS, STEADY_STEPS):
            return
        self._elapsed_s[self._steps] = trainer.progress.elapsed_s
        if self._steps == STEADY_STEPS:
            start_s, warm_s, steady_s = self._elapsed_s.values()
            step_s = (steady_s - warm_s) / (STEADY_STEPS - WARM_STEPS)
            extra_s = max(warm_s - start_s - WARM_STEPS * step_s, 0.0)
            trainer.seconds["warm"] = trainer.seconds.get("warm", 0.0) + extra_s


class KernelTrace(Callback):
    """Profiles the kernels of `telemetry.profile_steps` steps on rank 0, after the tenth step.

    Starting and stopping the profiler counts as start-up time, not as training time.
    """

    def begin(self, trainer: Training) -> None:
        self._steps = 0
        self._profiled_steps = trainer.config.telemetry.profile_steps if trainer.world.rank == 0 else 0
        self._profile: KernelProfile | None = None

    def step_end(self, trainer: Training, loss: torch.Tensor) -> None:
        self._steps += 1
        if not self._profiled_steps or self._steps < STEADY_STEPS:
            return
        if self._steps == STEADY_STEPS:
            with trainer.clock.excluded("start"):
                self._profile = KernelProfile(trainer.world.device)
        elif self._profile is not None and self._steps == STEADY_STEPS + self._profiled_steps:
            with trainer.clock.excluded("start"):
                kernels = self._profile.stop(self._profiled_steps, trainer.run.path / "trace.json")
                self._profile = None
                position = {"time_s": time.time(), "step": trainer.progress.step, "epoch": trainer.progress.epoch}
                trainer.run.telemetry({**position, "kind": "kernels", "rank": 0, **kernels})


class Accounting(Callback):
    """Adds up time, energy and cost of the run for result.json. The last of these callbacks to begin and to close."""

    def __init__(self, start_time: float) -> None:
        self._start_time = start_time
        self._begin_time = self._end_time = 0.0
        self._result: dict[str, Any] | None = None

    def begin(self, trainer: Training) -> None:
        message = warning(busy_at_start(), cores(trainer.world.local_size))
        if message and trainer.world.rank == 0 and not trainer.config.compute.threads:  # otherwise the user has chosen
            trainer.events.warn(trainer, message)
        self._begin_time = time.time()
        trainer.seconds["start"] = trainer.seconds.get("start", 0.0) + self._begin_time - self._start_time
        self._accounted_s = accounted(trainer)

    def close(self, trainer: Training) -> None:
        self._end_time = time.time()

    def result(self, trainer: Training) -> dict[str, Any]:
        if self._begin_time and self._end_time and self._result is None and trainer.world.rank == 0:
            accounted_s = accounted(trainer)
            other_s = (self._end_time - self._begin_time) - (accounted_s - self._accounted_s)
            self._result = outcome(trainer, held_s=accounted_s + max(other_s, 0.0))
        return self._result or {}


def accounted(trainer: Training) -> float:
    """Seconds of training plus the entries of `seconds`, except warm-up, which is part of training."""
    return trainer.progress.elapsed_s + sum(s for name, s in trainer.seconds.items() if name != "warm")


def _host_source() -> Opener:
    return "host", HostCounters


def _device_source(device: torch.device) -> Opener | None:
    """Name of the claim and constructor of the GPU's source; None for a CPU."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    uuid = uuid_of(str(torch.cuda.get_device_properties(index).uuid), index)
    return None if uuid is None else (uuid, partial(NvmlDevice, uuid))

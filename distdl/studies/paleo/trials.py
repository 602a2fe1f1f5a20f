"""Settings and trials of study `paleo`."""

from dataclasses import dataclass
from typing import Literal

from distdl.core.config import Positive, Text
from distdl.studies.base import Repetitions, Trial

COUNTS = "counts"


@dataclass(frozen=True, kw_only=True)
class PaleoSettings:
    """Settings of the measurements on this machine. FLOPs are always counted for VGG19 and three networks on a K80."""

    networks: tuple[Text, ...] = ("alexnet", "vgg16", "vgg19", "googlenet", "resnet50", "mobilenet_v2")
    """Networks whose layers are timed on this machine."""
    batch: Positive = 16
    """Images per step."""
    rounds: Positive = 5
    """Rounds of each measurement within a trial, of which the median is used."""
    repeats: Repetitions = 5
    """Trials of each network, each in its own process."""
    on: Literal["auto", "cpu", "cuda"] = "auto"
    """Device on which the networks are timed."""


def trials(settings: PaleoSettings) -> list[Trial]:
    """Return a trial that counts FLOPs, and the measurements, in turn by network so that drift affects all equally."""
    measured = [
        Trial(
            name=f"{network}-{repeat}",
            call="distdl.studies.paleo.tasks:measured",
            settings={"network": network, "batch": settings.batch, "rounds": settings.rounds, "on": settings.on},
            labels={"network": network, "repeat": repeat},
        )
        for repeat in range(settings.repeats)
        for network in settings.networks
    ]
    return [Trial(name=COUNTS, call="distdl.studies.paleo.tasks:counts"), *measured]

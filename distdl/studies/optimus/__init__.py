"""Study `optimus`: how long ResNet-50 takes to its target accuracy, foretold by others' curves (document 001).

trainings (networks x devices), imported logs -> b0, b1, b2 of each -> regression on depth and device
    -> ResNet-50's curve, beside the measured one -> epochs to the target
parameter-server runs, published coefficients -> seconds a step -> time and cost by servers and workers
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.optimus import report as shown
from distdl.studies.optimus.scaling import Scale
from distdl.studies.optimus.trials import Settings, trials

QUICK = {
    "networks": ("resnet18", "resnet20", "resnet32", "resnet56"),
    "devices": ("cpu", "cpu:bf16"),
    "epochs": 5,
    "drops": (),
    "batch": 32,
    "lr": 0.002,
    "images": 1280,
    "image_size": 16,
    "validation": 0.01,
    "target": 0.2,
    "ps_workers": (1, 2, 4),
    "ps_servers": (1, 2),
    "ps_steps": 12,
    "ps_hosts": False,
}
"""Real CIFAR-10, networks at full width and depth, without ResNet-44: 1,280 images of 16 x 16 pixels, 5 epochs of 40
steps at a smaller rate, for 0.1 wants more steps. Accuracy while they train is that of 500 other training
images. Two precisions of one processor stand for device types."""


def findings(settings: Settings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """What the completed trials show; parts whose trials still wait are left out, and said."""
    scale = Scale(
        servers=settings.servers,
        most_servers=settings.most_servers,
        most_workers=settings.most_workers,
        price_per_hour=settings.price_per_hour,
        pays=settings.pays,
        batch=settings.batch,
        images=settings.images or 50_000 * (1 - settings.validation),
    )
    return shown.sections(settings, scale, list(outcomes.values()))


STUDY = Study(
    name="optimus",
    summary="time and cost to a target accuracy by servers and workers, foretold from other networks (document 001)",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

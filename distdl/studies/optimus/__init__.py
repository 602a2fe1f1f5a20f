"""Study `optimus`: time until ResNet-50 reaches a target accuracy, predicted from the curves of other networks.

trainings (networks x devices), imported logs -> b0, b1, b2 of each -> regression on depth and device
    -> predicted and measured curve of ResNet-50 -> epochs to the target
parameter-server runs, published coefficients -> seconds per step -> time and cost by servers and workers
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.optimus import report
from distdl.studies.optimus.scaling import Scale
from distdl.studies.optimus.trials import OptimusSettings, trials

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
"""CIFAR-10 and networks of full width and depth, without ResNet-44; 1,280 images of 16 x 16 pixels, 5 epochs of 40
steps, and a smaller learning rate, because 0.1 needs more steps. Accuracy during training is measured on 500 other
training images. Two precisions on one CPU represent two device types."""


def findings(settings: OptimusSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return the results of the completed trials."""
    scale = Scale(
        servers=settings.servers,
        most_servers=settings.most_servers,
        most_workers=settings.most_workers,
        price_per_hour=settings.price_per_hour,
        pays=settings.pays,
        batch=settings.batch,
        images=settings.images or 50_000 * (1 - settings.validation),
    )
    return report.sections(settings, scale, list(outcomes.values()))


STUDY = Study(
    name="optimus",
    settings=OptimusSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

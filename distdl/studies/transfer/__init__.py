"""Study `transfer`: training from scratch, on frozen features, and fine-tuning, as in three published experiments.

A training profile sets the network, its weights and the target data set. The quick version uses a small network with
ImageNet weights on a part of Caltech-101 at 64 x 64 pixels.
"""

from distdl.studies.base import Study
from distdl.studies.transfer.report import findings
from distdl.studies.transfer.settings import TransferSettings
from distdl.studies.transfer.trials import trials

QUICK = {
    "profile": "darknet-caltech101",
    "overrides": {
        "data.image_size": 64,
        "data.loader": "resident",
        "data.limit": 300,
        "data.batch_size": 16,
        "epochs": 16,
        "evaluate_every": 4,
        "schedule.name": "multistep",
        "schedule.milestones": (4.8, 9.6, 14.4),
        "telemetry.hz": 0,
    },
    "scratch_rates": (0.03,),
    "rates": (0.001, 0.0005),
    "head_rates": (0.1, 0.01, 0.001, 0.0001),
    "lr": 0.0005,
    "factors": (("49.*", 10.0),),
}
"""15 of 80 images of each of 20 classes; 16 epochs; the learning rate drops three times, at the published shares of the
training."""

STUDY = Study(
    name="transfer",
    settings=TransferSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

"""Study `leaderboard`: document 000's three attempts, each a board that any number of processes work on.

lineage.py   what happened, line by line, and what it adds up to     board.py      slots, locks and pins on disk
rules.py     which slot next, and what becomes of weights            profiles.py   training profiles in alternation
worker.py    the process that trains                                 attempts.py   settings and trials
history.py, tree.py, findings.py                                     what the boards show
"""

from distdl.studies.base import Study
from distdl.studies.leaderboard.report import findings
from distdl.studies.leaderboard.trials import Settings, trials

QUICK = {
    "network": "darknet-tiny",
    "weights": "darknet_tiny_imagenet_state_dict.pth",
    "overrides": {
        "data.image_size": 64,
        "data.normalize": "none",
        "data.batch_size": 32,
        "data.loader": "resident",
    },
    "profiles": (
        {"name": "alex", "lr": 1e-3, "momentum": 0.9},
        {"name": "1e-2", "lr": 1e-2, "momentum": 0.5},
        {"name": "walter", "lr": 1e-4, "momentum": 0.1},
    ),
    "population": ("fine-tuned",),
    "slots": 3,
    "epochs": 24,
}
"""The same attempts on 20 of Caltech-101's classes, with a network of a million parameters that has ImageNet weights in
place of AlexNet, at 64 pixels, for 24 epochs an attempt in place of three days, with three slots and three profiles."""

STUDY = Study(
    name="leaderboard",
    summary="document 000: AlexNet from scratch, frozen and fine-tuned, by processes that share a board of five slots",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)

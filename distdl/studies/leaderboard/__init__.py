"""Study `leaderboard`: three attempts with AlexNet, each with a leaderboard that any number of processes share.

event_log.py  events, and the state as a fold over them         board.py     slots and locks on disk
rules.py      choice of the next slot, placement of weights     profiles.py  alternating training profiles
worker.py     the process that trains                           trials.py    settings and trials
history.py, tree.py, report.py                                  results
"""

from distdl.studies.base import Study
from distdl.studies.leaderboard.report import findings
from distdl.studies.leaderboard.trials import LeaderboardSettings, trials

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
"""The same attempts on 20 of Caltech-101's classes, with a network of a million parameters with ImageNet weights
instead of AlexNet, at 64 pixels, for 24 epochs per attempt instead of three days, with three slots and profiles."""

STUDY = Study(
    name="leaderboard",
    settings=LeaderboardSettings,
    quick=QUICK,
    trials=trials,
    renamed={"eon_lifetime_s": "slice_s"},
    findings=findings,
)

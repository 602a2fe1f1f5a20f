"""Training profiles, study.toml, trial.json, and the TOML files of devices and networks."""

from pathlib import Path

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.perf import hardware
from distdl.studies.runner import catalog
from distdl.studies.runner import trial_lock as claim
from distdl.studies.runner.folder import StudyFolder
from fuzz.run import Target
from repository import ROOT

PROFILE = """# A training with a value of every kind.
extends = "digits"
name = "mine"
epochs = 3
[data]
name = "mnist"
batch_size = 32
mean = [0.5]
std = [0.25]
[data.augment]
crop = 2
[optim]
name = "sgd"
lr = 1e-3
momentum = 0.9
nesterov = true
lr_factors = [["features.*", 0.1]]
"""
TRIAL = """{"status": "failed", "attempts": 2, "began": 1.5e9, "seconds": 3.5, "host": "a", "given_cores": 2,
"exit_code": 1, "reason": "error: no", "call": "distdl.training.session", "overrides": {"seed": 1}, "ranks": 1}"""
STUDY = """study = "scaling"
[settings]
profile = "digits"
workers = [1, 2]
strategies = ["ddp"]
epochs = 2
repeats = 3
"""


def seeds(_folder: Path) -> dict[str, bytes]:
    from_command_line([], strategy="single")  # the validators are built once, before the processes of the inputs
    catalog.find("scaling")
    shipped = ROOT / "profiles"
    return {
        "profile.toml": PROFILE.encode(),
        "study.toml": STUDY.encode(),
        "trial.json": TRIAL.encode(),
        "device.toml": (shipped / "devices" / "h100-sxm.toml").read_bytes(),
        "network.toml": (shipped / "networks" / "10gbe.toml").read_bytes(),
    }


def check(folder: Path, name: str, content: bytes) -> None:
    """All values that are read are in their ranges."""
    file = folder / name
    file.write_bytes(content)
    match name:
        case "profile.toml":
            config = from_command_line(["--profile", str(file)], strategy="single")
            assert isinstance(config, Config) and config.epochs > 0 and config.optim.lr >= 0
        case "study.toml":
            study = StudyFolder.open(folder)
            assert study.trials and all(trial.ranks > 0 for trial in study.trials)
        case "trial.json":
            assert claim.read(folder).attempts >= 0
        case "device.toml":
            device = hardware.device(str(file))
            assert all(0 < device.flops_per_s(precision) < float("inf") for precision in device.peak_tflops)
            assert 0 < device.bytes_per_s < float("inf")
        case "network.toml":
            assert 0 < hardware.network(str(file)).bytes_per_s < float("inf")


TARGET = Target(seeds=seeds, check=check, share=10)

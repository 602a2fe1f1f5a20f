"""Settings and trials of study `optimus`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from distdl.core.config import Count, FilePath, LearningRate, Positive, Rate, Text
from distdl.core.profiles import Recipe
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.optimus.logs import device_overrides, split_log

Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class OptimusSettings:
    """Networks and devices to train, the network to predict, and the runs that measure the time of a step."""

    networks: tuple[Text, ...] = ("resnet18", "resnet20", "resnet32", "resnet44", "resnet56")
    """Networks whose curves are fitted; the digits at the end of a name are the depth."""
    predicted: Text = "resnet50"
    """The network whose curve is predicted, and then trained for comparison."""
    devices: tuple[str, ...] = ("cuda",)
    """Device types to train on: cuda or cpu, with :bf16 or :tf32 for another precision than fp32."""
    logs: tuple[str, ...] = ()
    """Logs of trainings on other device types, each as TYPE=FOLDER: the folder contains run folders, or NETWORK.csv
    with columns step, loss and optionally lr, epoch and accuracy."""
    profile: Text = "resnet20-cifar10"
    """The training profile."""
    epochs: Positive = 350
    """Epochs of each training."""
    drops: tuple[Positive, ...] = (150, 250)
    """Epochs after which the learning rate falls to a tenth."""
    batch: Positive = 128
    """Images per step."""
    lr: LearningRate = 0.1
    """Initial learning rate."""
    images: Count = 0
    """Number of training images; 0 uses all 50,000."""
    image_size: Count = 0
    """Height and width of the images in pixels; 0 keeps those of the data set."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training images that is held out to measure accuracy during training; 0 uses the test set."""
    seeds: Repetitions = 1
    """Repetitions of each training."""
    target: Fraction = 0.92
    """Accuracy to reach."""
    servers: tuple[Positive, ...] = (2, 4)
    """Numbers of parameter servers for which time and cost by number of workers are plotted."""
    most_servers: Positive = 8
    """Largest number of servers in the search for the best configuration."""
    most_workers: Positive = 20
    """Largest number of workers in the search for the best configuration."""
    price_per_hour: Rate = 0.9
    """Price per hour of each server and each worker."""
    pays: Fraction = 0.05
    """An additional worker pays if it shortens the time by at least this share."""
    speed: FilePath | None = None
    """A CSV file of measured step times (as for distdl fit speed), instead of the study's own runs."""
    ps_servers: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4)
    """Numbers of servers of the runs that measure the step time."""
    ps_workers: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8)
    """Numbers of workers of these runs; each worker has its share of `batch` and replays recorded compute times."""
    ps_steps: Positive = 40
    """Number of steps of each of these runs."""
    ps_hosts: bool = True
    """Give each server and worker its own emulated host on this machine, with a link of 1 Gbit/s. Needs root; without
    it they communicate over loopback."""

    def __post_init__(self) -> None:
        for device in self.devices:
            device_overrides(device)
        for log in self.logs:
            split_log(log)
        if not self.devices and not self.logs:
            raise ValueError("devices and logs are both empty: nothing would be trained or read")
        if max(self.ps_workers) > self.batch:
            raise ValueError(f"ps_workers: {max(self.ps_workers)} workers cannot share a batch of {self.batch}")


def trials(settings: OptimusSettings) -> list[Trial]:
    """Return the trainings, imports, a recording for each batch size of a worker, and the parameter-server runs."""
    listed = []
    for device in settings.devices:
        for network in (*settings.networks, settings.predicted):
            listed += [_training(settings, device, network, seed) for seed in range(settings.seeds)]
    for log in settings.logs:
        device, folder = split_log(log)
        listed.append(
            Trial(
                name=f"import-{device.replace(':', '-')}",
                call="distdl.studies.optimus.logs:take",
                settings={"device": device, "folder": str(Path(folder).resolve())},
                labels={"part": "import", "device": device},
            )
        )
    return listed + ([] if settings.speed else _served(settings))


def _base(settings: OptimusSettings, overrides: Overrides) -> Recipe:
    size = {"data.image_size": settings.image_size} if settings.image_size else {}
    return Recipe(profile=settings.profile, overrides={"progress": "plain", **size, **overrides})


def _training(settings: OptimusSettings, device: str, network: str, seed: int) -> Trial:
    overrides: dict[str, Any] = {
        **device_overrides(device),
        "model.name": network,
        "seed": seed,
        "epochs": settings.epochs,
        "optim.lr": settings.lr,
        "data.batch_size": settings.batch,
        "log_every_s": 0,
        "schedule.name": "multistep" if settings.drops else "constant",
        "schedule.milestones": settings.drops,
        "checkpoint.every_epochs": max(settings.epochs // 10, 1),
        "checkpoint.keep": 1,
    }
    if settings.images:
        overrides["data.limit"] = settings.images
    if settings.validation:
        overrides["data.validation"] = settings.validation
    return Trial(
        name=f"{device.replace(':', '-')}-{network}-seed{seed}",
        recipe=_base(settings, overrides),
        labels={"part": "training", "device": device, "network": network, "seed": seed},
    )


def _served(settings: OptimusSettings) -> list[Trial]:
    """Parameter-server runs. The compute times of one worker are recorded first, for each batch size."""
    base = _base(
        settings,
        {
            "strategy": "ps",
            "model.name": settings.predicted,
            "compute.device": "cpu",
            "compute.threads": 1,
            "data.loader": "synthetic",
            "data.drop_last": True,
            "max_steps": settings.ps_steps,
            "epochs": 100_000,
            "evaluate_every": 100_000,
            "schedule.name": "constant",
            "schedule.milestones": (),
            "checkpoint.every_epochs": 0,
            "ps.timeout_s": 300,
        },
    )
    listed = []
    for workers in settings.ps_workers:
        batch = settings.batch // workers
        record = f"ps-record-{batch}"
        recording = base.updated({"data.batch_size": batch})
        labels: dict[str, str | int | float] = {"part": "recording", "workers": workers}
        listed.append(Trial(name=record, recipe=recording, ranks=2, labels=labels))
        replay = f"replay:{{study}}/trials/{record}/ps/worker-0.jsonl"
        for servers in settings.ps_servers:
            ranks = servers + workers
            listed.append(
                Trial(
                    name=f"ps-{servers}-{workers}",
                    recipe=recording.updated({"ps.servers": servers, "ps.compute": replay}),
                    ranks=ranks,
                    hosts=str(ranks) if settings.ps_hosts else "",
                    after=(record,),
                    labels={"part": "ps", "servers": servers, "workers": workers},
                )
            )
    return listed

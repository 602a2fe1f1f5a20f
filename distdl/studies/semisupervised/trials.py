"""One set with a share of its labels and a seed: names and words of its trainings."""

from dataclasses import dataclass

IMAGES = {"cifar10": 50_000, "mnist": 60_000}
"""Of the training list."""


@dataclass(frozen=True, kw_only=True)
class Case:
    data: str
    share: float
    """Of the training images that keep their labels."""
    seed: int
    teacher: str
    student: str
    batch_size: int
    augment: bool

    def name(self, part: str, *choice: int) -> str:
        """Of a trial; `choice` is K and P."""
        more = "".join(f"-{letter}{value}" for letter, value in zip("kp", choice, strict=False))
        return f"{self.data}-{self.share:g}-seed{self.seed}-{part}{more}"

    @property
    def labels(self) -> int:
        """Images that keep their labels."""
        return round(self.share * IMAGES[self.data])

    @property
    def labelled(self) -> tuple[str, ...]:
        """Words that train on these alone. The seed draws them, so that the spread has their chance in it too."""
        return ("--data.limit", str(self.labels), "--data.split-seed", str(self.seed))

    def words(self, network: str, steps: int, lr: float) -> tuple[str, ...]:
        """Of `distdl.train`: AdamW in one cycle of `steps`, evaluated and saved at the end."""
        changes = ("--data.augment.flip", "0.5", "--data.augment.crop", "4") if self.augment else ()
        return (
            *("--profile", "mnist-fast", "--data.name", self.data, "--model.name", network),
            *("--seed", str(self.seed), "--data.batch-size", str(self.batch_size), "--optim.lr", f"{lr:g}"),
            *("--max-steps", str(steps), "--epochs", str(steps), "--evaluate-every", str(steps)),
            *("--checkpoint.every-epochs", "0", "--telemetry.hz", "0"),
            *changes,
        )

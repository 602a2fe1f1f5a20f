"""The ten domains of the Visual Decathlon (Rebuffi et al. 2017, arXiv:1705.08045), images at 72 pixels.

Each is looked for as the challenge's archives lay it out, decathlon-1.0/DOMAIN/train/CLASS/*.jpg beside val, and where
that is missing, as its own distributors do. The challenge keeps the labels of its test images: val is then the test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distdl.core.config import DataConfig
from distdl.data.dataset import Raw
from distdl.data.storage import folders

SIZE = 72
"""Short side, in pixels, of the challenge's images."""
LAYOUTS = ("decathlon-1.0", "decathlon")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One of the ten."""

    folder: str
    """Folder in the challenge's archive."""
    title: str
    classes: int
    """Number of classes of the whole domain."""
    baseline: float
    """Accuracy of the challenge's baseline, fully fine-tuned, in per cent."""
    own_set: str = ""
    """The set of distdl that is this domain in its own layout, if there is one."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"decathlon-{self.folder}"


DOMAINS = (
    Domain(folder="imagenet12", title="ImageNet", classes=1000, baseline=59.87),
    Domain(folder="aircraft", title="aircraft", classes=100, baseline=60.34),
    Domain(folder="cifar100", title="CIFAR-100", classes=100, baseline=82.12, own_set="cifar100"),
    Domain(folder="daimlerpedcls", title="Daimler pedestrians", classes=2, baseline=92.82),
    Domain(folder="dtd", title="describable textures", classes=47, baseline=55.53, own_set="dtd"),
    Domain(folder="gtsrb", title="German traffic signs", classes=43, baseline=97.53, own_set="gtsrb"),
    Domain(folder="vgg-flowers", title="flowers", classes=102, baseline=81.41, own_set="flowers"),
    Domain(folder="omniglot", title="Omniglot", classes=1623, baseline=87.69, own_set="omniglot"),
    Domain(folder="svhn", title="street view house numbers", classes=10, baseline=96.55),
    Domain(folder="ucf101", title="UCF101 dynamic images", classes=101, baseline=51.20),
)


def places(domain: Domain, own_set: tuple[str, ...]) -> tuple[str, ...]:
    """Folders under the data root: the challenge's, then those of the domain's own distribution."""
    return (*(f"{layout}/{domain.folder}" for layout in LAYOUTS), *own_set)


def reader(own_set: Callable[[Path, DataConfig], Raw] | None) -> Callable[[Path, DataConfig], Raw]:
    """Reads a domain in the challenge's layout or, where the folder has no train/, in its own."""

    def read(folder: Path, config: DataConfig) -> Raw:
        if own_set is not None and not (folder / "train").is_dir():
            return own_set(folder, config)
        return folders.read(folder, config)

    return read

"""The ten domains of the Visual Decathlon (Rebuffi et al. 2017, arXiv:1705.08045) with images of 72 pixels.

Each is searched first in the layout of the challenge's archives, decathlon-1.0/DOMAIN/train/CLASS/*.jpg and val/, then
in the layout of its original distribution. The challenge does not publish the labels of its test images, so val is used
as the test split.
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
    """One of the ten domains."""

    folder: str
    """Folder in the challenge's archive."""
    title: str
    classes: int
    """Number of classes."""
    baseline: float
    """Accuracy in per cent of the challenge's baseline, a fully fine-tuned network."""
    original: str = ""
    """Name of distdl's data set that is this domain in its original layout, if there is one."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"decathlon-{self.folder}"


DOMAINS = (
    Domain(folder="imagenet12", title="ImageNet", classes=1000, baseline=59.87),
    Domain(folder="aircraft", title="aircraft", classes=100, baseline=60.34),
    Domain(folder="cifar100", title="CIFAR-100", classes=100, baseline=82.12, original="cifar100"),
    Domain(folder="daimlerpedcls", title="Daimler pedestrians", classes=2, baseline=92.82),
    Domain(folder="dtd", title="describable textures", classes=47, baseline=55.53, original="dtd"),
    Domain(folder="gtsrb", title="German traffic signs", classes=43, baseline=97.53, original="gtsrb"),
    Domain(folder="vgg-flowers", title="flowers", classes=102, baseline=81.41, original="flowers"),
    Domain(folder="omniglot", title="Omniglot", classes=1623, baseline=87.69, original="omniglot"),
    Domain(folder="svhn", title="street view house numbers", classes=10, baseline=96.55),
    Domain(folder="ucf101", title="UCF101 dynamic images", classes=101, baseline=51.20),
)


def places(domain: Domain, original: tuple[str, ...]) -> tuple[str, ...]:
    """Return possible folders under the data root: the challenge's, then those of the original distribution."""
    return (*(f"{layout}/{domain.folder}" for layout in LAYOUTS), *original)


def reader(original: Callable[[Path, DataConfig], Raw] | None) -> Callable[[Path, DataConfig], Raw]:
    """Return a function that reads a domain.

    It expects the challenge's layout; a folder without train/ is read by `original`, the reader of the original layout.
    """

    def read(folder: Path, config: DataConfig) -> Raw:
        if original is not None and not (folder / "train").is_dir():
            return original(folder, config)
        return folders.read(folder, config)

    return read

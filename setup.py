"""Metadata, dependencies and extras of the distribution. pyproject.toml configures the tools."""

import re
from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "deepspeed": ["deepspeed>=0.19"],
    "large-batch": ["timm>=1.0"],
    "tensorboard": ["tensorboard>=2.18"],
    # The wheel has 424 MB, so "all" does not include it. On machines with CUDA 12 install nvidia-dali-cuda120 instead.
    "dali": ["nvidia-dali-cuda130>=2.0"],
    # torch depends on jinja2 too; it is listed because report/page.html is a template of it.
    "report": ["vl-convert-python>=1.9", "jinja2>=3.1"],
    "bench": ["lightning>=2.5", "accelerate>=1.0", "timm>=1.0", "webdataset>=1.0"],
    "counters": ["fvcore>=0.1.5", "torchinfo>=1.8", "thop>=0.1.1", "ptflops>=0.7.5"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "pytest-rerunfailures>=15",
        "hypothesis>=6",
        "ruff>=0.8",
        "build>=1.2",
        "selenium>=4.30",
        "import-linter>=2.1",
        "pyright[nodejs]>=1.1.400",
        "codespell>=2.4",
        "pyyaml>=6",
    ],
    "docs": ["sphinx>=8.1", "furo>=2024.8.6", "myst-parser>=4"],
}
EXTRAS["all"] = sorted(
    {need for name in ("deepspeed", "large-batch", "tensorboard", "report") for need in EXTRAS[name]}
)


def _version() -> str:
    """Read `__version__` of distdl/__init__.py, the only place that states the version."""
    source = Path(__file__).with_name("distdl") / "__init__.py"
    line = re.search(r'^__version__ = "(.+)"$', source.read_text(encoding="utf-8"), re.MULTILINE)
    if line is None:
        raise RuntimeError(f"{source} has no line __version__ = ...")
    return line[1]


setup(
    name="distdl",
    version=_version(),
    description="Distributed training of image classifiers, with a prediction of time and cost before you start.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["distdl", "distdl.*"]), "distdl.profiles"],
    package_dir={"distdl.profiles": "profiles"},
    package_data={"distdl": ["py.typed"], "distdl.profiles": ["*/*.toml"], "distdl.report": ["page.*"]},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "numpy>=1.26",
        "scipy>=1.11",
        "pydantic>=2.7",
        # distdl.cli.arguments uses tyro._errors, which is private: tests/cli must pass with a newer version.
        "tyro>=1.0.17,<1.1",
        "rich>=13.7",
        "psutil>=5.9",
        "nvidia-ml-py>=12.560",
        "scikit-learn>=1.4",
        "safetensors>=0.4.3",
        "vl-convert-python>=1.9",
        "pillow>=11.3",
        "simplejpeg>=1.8",
        "tomli-w>=1.0",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["distdl = distdl.cli.__main__:main"]},
)

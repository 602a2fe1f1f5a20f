"""Container images: selection of an installed builder, and a training in an image built from scratch."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from debian import needs
from repository import ROOT

CONTAINERS = ROOT / "containers"


def build(*argv: str, builder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONTAINERS / "build.sh", *argv], env={**os.environ, "BUILDER": builder}, capture_output=True, text=True
    )


def test_the_first_installed_builder_builds_the_target() -> None:
    done = build("cuda", "--build-arg", "BASE=mine", builder="no-such-builder echo")  # echo prints its arguments
    command = done.stdout.split()
    assert command[0] == "build"
    assert command[command.index("--target") + 1] == "cuda"
    assert command[command.index("--tag") + 1] == "distdl:cuda"
    assert command[-3:] == ["--build-arg", "BASE=mine", "."]


def test_a_missing_builder_or_an_unknown_image_is_an_error() -> None:
    assert "none of docker, podman and buildah" in build("cpu", builder="no-such-builder").stderr
    done = build("tpu", builder="echo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cpu or cuda, not tpu" in done.stderr


def test_dockerignore_allows_every_file_that_an_image_copies() -> None:
    """.dockerignore allows the files that it names, and Dockerfile and distdl.def install only from these."""
    root = CONTAINERS.parent
    named = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    apptainer = (CONTAINERS / "distdl.def").read_text().split("%files")[1].split("%post")[0].split()
    assert {Path(source).name for source in apptainer if not source.startswith("/src")} == named
    assert all((root / name).exists() for name in named)


@pytest.mark.parametrize("script", ["build.sh", "install.sh", "prove.sh", "horovod/build.sh"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["sh", "-n", CONTAINERS / script], check=True)


def test_errors_of_the_horovod_build_state_the_reason(tmp_path: Path) -> None:
    script = CONTAINERS / "horovod" / "build.sh"
    done = subprocess.run([script, "no-such-python"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such python" in done.stderr
    python = tmp_path / "python"
    python.symlink_to(shutil.which("false"))
    done = subprocess.run([script, python], capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot import torch" in done.stderr


@pytest.mark.slow
@pytest.mark.serial
def test_an_image_is_built_from_scratch_and_trains() -> None:
    """Build with debootstrap and buildah, with Horovod; then run doctor, two trainings and a benchmark in the image."""
    for tool in ("debootstrap", "buildah"):
        needs(tool, program=tool, root=True)
    done = subprocess.run([CONTAINERS / "prove.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[-1] == "=== passed"
    for strategy in ("ddp", "horovod"):
        assert any(line.startswith(f"{strategy} 2 ranks, accuracy 0.9") for line in lines)

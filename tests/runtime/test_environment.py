"""Machine and versions of a run."""

import pytest
import torch

from distdl.runtime.environment import environment


def test_the_environment_names_versions_cores_and_the_command() -> None:
    values = environment()
    assert values["packages"]["torch"]
    assert values["cores"] >= 1
    assert values["command"]


def test_the_environment_names_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert environment()["gpus"] == ["GPU 0", "GPU 1"]

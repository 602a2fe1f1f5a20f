"""Export of a run's weights, and their use in another run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distdl.cli.export import export
from distdl.core.checkpoints import find
from distdl.core.errors import UserError
from distdl.runtime.tensors import load
from jobs import train


@pytest.fixture
def run(tmp_path: Path) -> Path:
    train(["--epochs", "2", "--optim.ema", "0.9", "--out", str(tmp_path / "run")])
    return tmp_path / "run"


def test_the_average_is_exported_and_can_be_trained_further(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    export(run, file, which="newest")
    state, _ = load(find(run, warn=pytest.fail))
    written = load_file(file)
    assert written.keys() == state["model"].keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state["ema"]["average"].items())
    argv = ["--model.weights", str(file), "--epochs", "1", "--optim.lr", "0", "--out", str(tmp_path / "next")]
    train(argv)
    trained, _ = load(find(tmp_path / "next", warn=pytest.fail))
    assert all(torch.equal(trained["model"][name], tensor) for name, tensor in written.items())


def test_the_raw_weights_can_be_exported(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "raw.safetensors", which="newest", raw=True)
    state, _ = load(find(run, warn=pytest.fail))
    written = load_file(tmp_path / "raw.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in state["model"].items())


def test_invalid_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.safetensors"):
        export(tmp_path, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="no whole checkpoint"):
        export(tmp_path, tmp_path / "weights.safetensors")


def test_a_run_that_others_can_change_is_a_warning(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(run, tmp_path / "private.safetensors")
    assert capsys.readouterr().err == ""
    run.chmod(0o777)
    for source in (run, find(run, warn=pytest.fail)):
        export(source, tmp_path / "shared.safetensors")
        err = capsys.readouterr().err
        assert err.startswith("warning: checkpoint ") and f": {run} is writable for every user" in err
        assert err.count("\n") == 1
    assert load_file(tmp_path / "shared.safetensors").keys() == load_file(tmp_path / "private.safetensors").keys()

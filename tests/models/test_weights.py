"""Weights from files: matching tensors are loaded, mismatches are named, and code in a file is never executed."""

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from distdl.core.config import ModelConfig
from distdl.core.errors import UserError
from distdl.models import build as builder
from distdl.models import weights
from distdl.models.family import StateDict
from distdl.training.checkpoint import Checkpoints, Progress


def build(file: Path | str, *, name: str = "resnet20", classes: int = 10, channels: int = 3, size: int = 32, **options):
    torch.manual_seed(1)
    config = ModelConfig(name=name, weights=str(file), **options)
    return builder.build(config, classes=classes, channels=channels, image_size=size)


def scratch(
    name: str = "resnet20", *, classes: int = 10, channels: int = 3, size: int = 32, seed: int = 0
) -> nn.Module:
    torch.manual_seed(seed)
    return builder.build(ModelConfig(name=name), classes=classes, channels=channels, image_size=size)


def same(network: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".th", ".pt", ".safetensors"])
def test_each_file_format_is_loaded(suffix: str, tmp_path: Path) -> None:
    state, file = scratch().state_dict(), tmp_path / f"weights{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    assert same(build(file), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrappers_and_prefixes_of_training_scripts_are_removed(prefix: str, wrapper: str, tmp_path: Path) -> None:
    state = scratch().state_dict()
    content = {wrapper: OrderedDict((prefix + key, value) for key, value in state.items()), "epoch": 3, "best": 0.9}
    torch.save(content, tmp_path / "run.pth")
    assert same(build(tmp_path / "run.pth"), state)


def test_weights_of_a_run_folder_are_its_newest_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    for step in (1, 2):
        state = scratch(seed=step).state_dict()
        checkpoints.save(checkpoints.begin(step), {"model": state, "strategy": {}}, Progress(step=step), None)
        checkpoints.wait()
    assert same(build(tmp_path / "run"), state)
    with pytest.raises(UserError, match="no whole checkpoint"):
        build(tmp_path)


def test_old_files_without_batch_counters_are_loaded(tmp_path: Path) -> None:
    state = {key: value for key, value in scratch().state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(build(tmp_path / "old.pth").conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("squeezenet1_1", 64)])
def test_the_last_layer_is_replaced_if_the_classes_differ(name: str, size: int, tmp_path: Path) -> None:
    state = scratch(name, size=size).state_dict()
    torch.save(state, tmp_path / "ten.pth")
    network = build(tmp_path / "ten.pth", name=name, classes=7, size=size).eval()
    assert network(torch.randn(2, 3, size, size)).shape == (2, 7)
    differing = [key for key, value in network.state_dict().items() if value.shape != state[key].shape]
    assert (
        differing
        == {
            "resnet20": ["linear.weight", "linear.bias"],
            "squeezenet1_1": ["classifier.1.weight", "classifier.1.bias"],
            "vit_b_32": ["heads.head.weight", "heads.head.bias"],
            "alexnet": ["classifier.6.weight", "classifier.6.bias"],
        }[name]
    )
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items() if k not in differing)


@pytest.mark.parametrize("part", ["features", "classifier"])
def test_one_part_may_start_from_scratch(part: str, tmp_path: Path) -> None:
    state = scratch("alexnet", size=64).state_dict()
    torch.save(state, tmp_path / "alexnet.pth")
    network = build(tmp_path / "alexnet.pth", name="alexnet", size=64, weights_part=part)
    taken = {key for key, value in network.state_dict().items() if torch.equal(value, state[key])}
    assert taken == {key for key in state if key.startswith(part)}


def test_features_are_loaded_from_a_file_without_a_classifier(tmp_path: Path) -> None:
    state = {key: value for key, value in scratch().state_dict().items() if not key.startswith("linear")}
    torch.save(state, tmp_path / "backbone.pth")
    build(tmp_path / "backbone.pth", weights_part="features")
    with pytest.raises(UserError, match=r"linear\.weight is not in the weights"):
        build(tmp_path / "backbone.pth")


def test_color_weights_are_folded_for_gray_images(tmp_path: Path) -> None:
    network = scratch("resnet18", size=64).eval()
    torch.save(network.state_dict(), tmp_path / "rgb.pth")
    gray = build(tmp_path / "rgb.pth", name="resnet18", channels=1, size=64).eval()
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(gray(images), network(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    torch.save(gray.state_dict(), tmp_path / "gray.pth")
    assert same(build(tmp_path / "gray.pth", name="resnet18", channels=1, size=64), gray.state_dict())


def test_position_embeddings_are_resized_to_the_image(tmp_path: Path) -> None:
    torch.save(scratch("vit_b_32", size=128).state_dict(), tmp_path / "vit.pth")
    network = build(tmp_path / "vit.pth", name="vit_b_32", classes=7, size=64)
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_older_torchvision_files_are_loaded(tmp_path: Path) -> None:
    """DenseNet's names of 2017, GoogLeNet's auxiliary classifiers, and MNASNet, which requires a version."""
    state = scratch("densenet121", size=64).state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in state.items()}
    torch.save(old, tmp_path / "densenet.pth")
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert same(build(tmp_path / "densenet.pth", name="densenet121", size=64), state)

    from torchvision.models import googlenet

    full = googlenet(init_weights=False, num_classes=1000).state_dict()
    assert any(key.startswith("aux1.") for key in full)
    torch.save(full, tmp_path / "googlenet.pth")
    network = build(tmp_path / "googlenet.pth", name="googlenet", size=64)
    assert torch.equal(network.conv1.conv.weight, full["conv1.conv.weight"])
    assert network.transform_input

    state = scratch("mnasnet0_5", size=64).state_dict()
    save_file(state, tmp_path / "mnasnet.safetensors")
    assert same(build(tmp_path / "mnasnet.safetensors", name="mnasnet0_5", size=64), state)


class Payload:
    """An object whose unpickling would create a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.file),)


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": Payload(tmp_path / "run")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="does not unpickle"):
        build(tmp_path / "evil.pth")
    assert not (tmp_path / "run").exists()


def _truncated(file: Path, state: dict) -> None:
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


BAD_FILES = {
    "absent.pth": (lambda file, state: None, "there is no file"),
    "weights.onnx": (lambda file, state: file.write_bytes(b"x"), "ends in .pth, .th, .pt, .safetensors"),
    "half.pth": (_truncated, "is damaged|cannot be read"),
    "empty.pth": (lambda file, state: file.write_bytes(b""), "is damaged|cannot be read"),
    "noise.pt": (lambda file, state: file.write_bytes(bytes(range(256)) * 9), "is damaged|cannot be read"),
    "half.safetensors": (lambda file, state: file.write_bytes(b"\x08" + bytes(12)), "is it complete"),
    "list.pth": (lambda file, state: torch.save([1, 2], file), "has no state_dict"),
    "optimizer.pth": (lambda file, state: torch.save({"state": {}, "param_groups": []}, file), "has no state_dict"),
    "resnet32.pth": (
        lambda file, state: torch.save(scratch("resnet32").state_dict(), file),
        "do not fit resnet20: layer1.3.conv1.weight is not in the network; .*, and 69 more",
    ),
    "wide.pth": (
        lambda file, state: torch.save(state | {"conv1.weight": torch.zeros(32, 3, 3, 3)}, file),
        r"do not fit resnet20: conv1.weight is \[32, 3, 3, 3\] in the weights and \[16, 3, 3, 3\] in the network$",
    ),
    "short.pth": (
        lambda file, state: torch.save({k: v for k, v in state.items() if k != "bn1.bias"}, file),
        "do not fit resnet20: bn1.bias is not in the weights$",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named(name: str, tmp_path: Path) -> None:
    make, message = BAD_FILES[name]
    make(tmp_path / name, scratch().state_dict())
    with pytest.raises(UserError, match=message) as caught:
        build(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_locate_searches_the_current_folder_and_then_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTDL_DATA", str(tmp_path / "data"))
    shared = tmp_path / "data" / "weights" / "net.pth"
    shared.parent.mkdir(parents=True)
    shared.touch()
    assert weights.locate("net.pth", "resnet20") == shared
    Path("net.pth").touch()
    assert weights.locate("net.pth", "resnet20") == Path("net.pth")
    with pytest.raises(UserError, match=r"there is no file folder/net\.pth$"):
        weights.locate("folder/net.pth", "resnet20")


def test_select_takes_one_part_and_keeps_the_rest_of_the_network() -> None:
    network, other = scratch(seed=0), scratch(seed=1)
    state, initial = StateDict(other.state_dict()), network.state_dict()
    for part, is_taken in (
        ("all", lambda key: True),
        ("features", lambda key: not key.startswith("linear.")),
        ("classifier", lambda key: key.startswith("linear.")),
    ):
        chosen = weights.select(state, network, part)
        assert chosen.keys() == initial.keys()
        assert all(chosen[key].equal(state[key] if is_taken(key) else initial[key]) for key in initial)


def test_mismatches_leave_the_network_unchanged() -> None:
    network = scratch()
    initial = {key: value.clone() for key, value in network.state_dict().items()}
    state = StateDict(scratch(seed=1).state_dict())
    assert weights.mismatches(state, network) == []
    del state["bn1.bias"]
    state["extra"] = torch.zeros(1)
    assert weights.mismatches(state, network) == ["bn1.bias is not in the weights", "extra is not in the network"]
    state["conv1.weight"] = torch.zeros(1)
    assert weights.mismatches(state, network) == ["conv1.weight is [1] in the weights and [16, 3, 3, 3] in the network"]
    assert same(network, initial)


def test_shapes_are_checked_under_renamed_keys(tmp_path: Path) -> None:
    """torchvision's vision transformers rename `linear_1` in older files to `0` during loading."""
    state = scratch("vit_b_32", size=64).state_dict()
    old = OrderedDict((key.replace("mlp.0.", "mlp.linear_1."), value) for key, value in state.items())
    old._metadata = {"": {"version": 1}}
    torch.save(old, tmp_path / "old.pth")
    assert same(build(tmp_path / "old.pth", name="vit_b_32", size=64), state)
    old["encoder.layers.encoder_layer_0.mlp.linear_1.bias"] = torch.zeros(5)
    torch.save(old, tmp_path / "narrow.pth")
    with pytest.raises(UserError, match=r"do not fit vit_b_32: size mismatch for .*encoder_layer_0\.mlp\.0\.bias"):
        build(tmp_path / "narrow.pth", name="vit_b_32", size=64)


def test_a_users_family_adapts_weights(tmp_path: Path) -> None:
    name = "user_networks:Tiny"
    state = scratch(name, size=8).state_dict()
    old = {key.replace("classifier.", "head."): value for key, value in state.items()}
    assert "head.weight" in old
    torch.save(old, tmp_path / "old.pth")
    assert same(build(tmp_path / "old.pth", name=name, size=8), state)

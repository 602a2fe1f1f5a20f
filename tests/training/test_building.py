"""Network, optimizer and loaders from a configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distdl.core.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig
from distdl.core.errors import UserError
from distdl.runtime.world import World
from distdl.training import building

CNN = ModelConfig(name="digits-cnn")


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_initial_weights_depend_only_on_the_seed(small: Callable, digits: Callable) -> None:
    config = small(model=CNN)
    dataset = digits(config.data)
    first = weights(building.network(config, dataset, seed=3))
    torch.rand(17)
    assert same(first, weights(building.network(config, dataset, seed=3)))
    assert not same(first, weights(building.network(config, dataset, seed=4)))
    for seed, equal in ((3, True), (4, False)):
        model, _ = building.network_and_optimizer(small(model=CNN, seed=seed), dataset, World())
        assert same(first, weights(model)) is equal


@pytest.mark.parametrize(("image_size", "inputs"), [(0, 64), (4, 16)])
def test_the_network_has_the_sizes_of_the_data(small: Callable, digits: Callable, image_size: int, inputs: int) -> None:
    config = small(data=DataConfig(limit=96, image_size=image_size))
    model = building.network(config, digits(config.data), seed=0)
    (weight, _) = weights(model)
    assert weight.shape == (10, inputs)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_memory_format_is_configurable(small: Callable, digits: Callable, channels_last: bool) -> None:
    config = small(model=CNN, compute=ComputeConfig(channels_last=channels_last, threads=1))
    model, _ = building.network_and_optimizer(config, digits(config.data), World())
    kernels = [weight for weight in weights(model) if weight.dim() == 4 and weight.shape[1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) is channels_last for kernel in kernels)


@pytest.mark.parametrize(
    ("compute", "mode"), [({}, None), ({"compile": True}, "default"), ({"cuda_graphs": True}, "reduce-overhead")]
)
def test_a_network_is_compiled_if_configured(
    small: Callable, digits: Callable, monkeypatch: pytest.MonkeyPatch, compute: dict[str, bool], mode: str | None
) -> None:
    """Only the argument of torch.compile is checked."""
    modes: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: modes.append(mode or "default"))
    config = small(compute=ComputeConfig(threads=1, **compute), data=DataConfig(limit=96, drop_last=True))
    _, optimizer = building.network_and_optimizer(config, digits(config.data), World())
    assert modes == ([mode] if mode else [])
    assert isinstance(optimizer, torch.optim.SGD)


def test_the_learning_rate_is_scaled_to_the_global_batch(small: Callable, digits: Callable) -> None:
    config = small(optim=OptimConfig(lr=0.1, lr_reference_batch=64))  # 32 samples per rank
    _, optimizer = building.network_and_optimizer(config, digits(config.data), World(size=6))
    assert [group["peak_lr"] for group in optimizer.param_groups] == [pytest.approx(0.3)]


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_there_is_a_loader_for_each_split(small: Callable, digits: Callable, validation: float) -> None:
    config = small(data=DataConfig(batch_size=32, validation=validation))
    dataset = digits(config.data)
    sizes = building.samples_by_split(dataset)
    assert list(sizes) == (["train", "validation", "test"] if validation else ["train", "test"])
    assert sizes["train"] == len(dataset.train) and sizes["test"] == len(dataset.test)
    loaders = building.loaders(config, dataset, World())
    assert list(loaders) == list(sizes)
    for name, loader in loaders.items():
        batches = list(loader.epoch(0))
        assert sum(batch.count for batch in batches) == sizes[name]
        in_order = [index for batch in batches for index in batch.indices] == [*range(sizes[name])]
        assert in_order is (name != "train"), "only training images are shuffled"
        loader.close()


def test_the_training_spec_matches_the_loader(small: Callable, digits: Callable) -> None:
    config, world = small(), World(rank=1, size=2)
    dataset = digits(config.data)
    spec = building.training_spec(config, dataset, world)
    assert (spec.split, spec.training, spec.world, spec.global_batch) == (dataset.train, True, world, 64)


def test_batches_that_are_too_small_for_batchnorm_are_refused(small: Callable, digits: Callable) -> None:
    """97 samples in batches of 2: no division leaves the last rank two samples."""
    config = small(data=DataConfig(limit=97, batch_size=2))
    dataset = digits(config.data)
    # BatchNorm over one pixel needs two samples, and over 8 x 8 pixels one.
    pixel = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.BatchNorm2d(1))
    with pytest.raises(UserError, match="a rank would have 1 sample"):
        building.check_batches(config, dataset, World(), pixel, start=0)
    building.check_batches(config, dataset, World(), torch.nn.BatchNorm2d(1), start=0)
    large = small(data=DataConfig(limit=97, batch_size=2, image_size=16))  # 2 x 2 pixels after the pooling
    building.check_batches(large, digits(config.data), World(), pixel, start=0)
    even = small(data=DataConfig(limit=96, batch_size=2))
    building.check_batches(even, digits(even.data), World(), pixel, start=0)
    with pytest.raises(UserError, match="a rank would have 1 sample"):  # a resume within an epoch
        building.check_batches(even, digits(even.data), World(), pixel, start=95)


def test_options_reach_the_network_and_the_optimizer(
    small: Callable, digits: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_for_building.py").write_text(
        "import torch\n"
        "def network(*, classes, channels, image_size, hidden: int = 1):\n"
        "    pixels = channels * image_size**2\n"
        "    layers = torch.nn.Linear(pixels, hidden), torch.nn.Linear(hidden, classes)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), *layers)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = small(
        model=ModelConfig(name="parts_for_building:network"),
        optim=OptimConfig(name="torch.optim:NAdam"),
        options={"model": {"hidden": 7}, "optimizer": {"eps": 0.5}},
    )
    model, optimizer = building.network_and_optimizer(config, digits(config.data), World())
    assert model[1].out_features == 7
    assert [group["eps"] for group in optimizer.param_groups] == [0.5]

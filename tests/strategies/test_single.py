"""The strategy of one process: its world, and collectives that return their argument."""

import pytest
import torch

from distdl.core.config import ComputeConfig, Config
from distdl.core.errors import UserError
from distdl.runtime.world import World
from distdl.strategies.single import Single


@pytest.fixture(autouse=True)
def threads() -> None:
    """Restore torch's number of threads."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_variables_of_launchers_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    strategy = Single(Config(compute=ComputeConfig(device="cpu", threads=1)))
    assert strategy.setup() == strategy.world == World(device=torch.device("cpu"))
    assert torch.get_num_threads() == 1
    assert not strategy.warnings


def test_a_missing_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"compute.device is cuda, but host .* has 0 GPUs for 1 ranks"):
        Single(Config(compute=ComputeConfig(device="cuda"))).setup()


def test_collectives_of_one_rank_return_their_argument(single: Single) -> None:
    tensor = torch.tensor([1.0, -2.0])
    assert all(single.all_reduce(tensor, op) is tensor for op in ("sum", "max", "min"))
    assert single.broadcast(tensor, 0) is tensor
    assert tensor.tolist() == [1.0, -2.0]
    assert single.barrier() is None

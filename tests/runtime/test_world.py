"""The world of one process."""

import dataclasses

import pytest
import torch

from distdl.runtime.launch_env import Placement
from distdl.runtime.world import World


def test_the_default_is_one_training_process_on_the_cpu() -> None:
    world = World()
    assert (world.rank, world.size, world.local_rank, world.local_size) == (0, 1, 0, 1)
    assert (world.device, world.role) == (torch.device("cpu"), "train")


def test_a_world_has_all_fields_of_a_placement() -> None:
    assert World(rank=1, size=2) == World(rank=1, size=2) != World(rank=1, size=3)
    assert {field.name for field in dataclasses.fields(Placement)} < {field.name for field in dataclasses.fields(World)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        World().rank = 1

"""Families: declared by a network, or the default; states keep the versions of their modules."""

import torch
from torch import nn

from distdl.models.family import Family, StateDict, family_of


def test_a_network_declares_its_family() -> None:
    class Declared(nn.Module):
        family = Family(containers=("stages",))

    assert family_of(Declared()).containers == ("stages",)
    assert family_of(nn.Linear(1, 1)) == Family()


def test_replaced_tensors_keep_the_versions() -> None:
    state = StateDict(nn.BatchNorm2d(1).state_dict())
    state._metadata = {"": {"version": 2}}
    other = state.replaced([("x", torch.zeros(1))])
    assert (list(other), other._metadata) == (["x"], {"": {"version": 2}})

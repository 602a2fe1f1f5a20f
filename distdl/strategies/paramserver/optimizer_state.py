"""State of a server's optimizer whose parameter groups have changed since it was saved.

Consecutive parameters with equal settings share a group (`requests`). Other settings of a resumed run, such as another
weight decay, can therefore divide the same elements into other groups; and so did version 0.1.
"""

from typing import Any

import torch
from torch.optim import Optimizer


def regrouped(saved: Any, optimizer: Optimizer) -> Any:
    """Return a saved state, divided as the groups of `optimizer`, which is elementwise and has a parameter per group.

    A state that cannot be divided is returned unchanged: the optimizer refuses it.

    Args:
        saved: `state_dict` of such an optimizer for the same elements in the same order.
    """
    groups = optimizer.state_dict()["param_groups"]
    sizes = [parameter.numel() for group in optimizer.param_groups for parameter in group["params"]]
    try:
        slots = [saved["state"][index] for index in range(len(saved["param_groups"]))] if saved["state"] else []
        values = {name: _divided([slot[name] for slot in slots], sizes) for name in (slots[0] if slots else ())}
    except (KeyError, TypeError, RuntimeError):  # not the state of such an optimizer
        return saved
    state = {index: {name: parts[index] for name, parts in values.items()} for index in range(len(sizes))}
    return {"state": state if slots else {}, "param_groups": groups}


def _divided(values: list[Any], sizes: list[int]) -> list[Any]:
    """Divide the values [n] of all elements; a value that is not per element, such as a count of steps, is repeated."""
    first = values[0]
    if not isinstance(first, torch.Tensor):
        return [first] * len(sizes)
    parts = torch.cat(values).split(sizes) if first.dim() else [first] * len(sizes)
    return [part.clone() for part in parts]  # no two parameters may share storage

"""PowerSGD (Vogels et al. 2019) by torch's hook, on all gradients at once, in the order of the model's parameters.

torch keeps error feedback and factors per bucket, and DDP reorders its buckets after the first step of a process: after
a resume, error feedback would be added to the wrong gradients. One bucket in the model's order prevents that. A resumed
run then differs from an uninterrupted one only by rounding (2e-6): the rounding of a matrix product also depends on the
memory alignment of its operands.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

from distdl.runtime.torch_private import GradBucket, copy_all
from distdl.strategies.comm_hooks import Future

START = 10
"""Number of steps at the start without compression."""
LAYOUT = "model"
"""The gradients of all trainable parameters in the model's order; version 1 saved those of DDP's buckets."""
SAVED = ("error_dict", "p_memory_dict", "q_memory_dict", "iter")


class PowerSGD:
    """A communication hook with its state. Each rank has its own error feedback."""

    def __init__(self, model: nn.Module, rank: int) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._state = powerSGD_hook.PowerSGDState(
            process_group=None, matrix_approximation_rank=rank, start_powerSGD_iter=START
        )
        self._waiting: list[tuple[GradBucket, Future]] = []

    def __call__(self, _: Any, bucket: GradBucket) -> Future:
        device = bucket.buffer().device
        done = Future(devices=[device] if device.type == "cuda" else [])
        self._waiting.append((bucket, done))
        if bucket.is_last():
            waiting, self._waiting = self._waiting, []
            gradients = {
                id(parameter): gradient
                for each, _ in waiting
                for parameter, gradient in zip(each.parameters(), each.gradients(), strict=True)
            }
            single = SingleBucket([gradients[id(parameter)] for parameter in self._parameters])
            powerSGD_hook.powerSGD_hook(self._state, cast(GradBucket, single)).wait()
            single.copy_back()
            for each, future in waiting:
                future.set_result(each.buffer())
        return done

    def state_dict(self) -> dict[str, Any]:
        """Return error feedback, factors and the state of the random number generator: tensors and plain values."""
        rng = self._state.rng.get_state(legacy=False)["state"]
        saved = {name: getattr(self._state, name) for name in SAVED}
        rank = self._state.matrix_approximation_rank
        return saved | {"layout": LAYOUT, "rank": rank, "rng": rng["key"].tolist(), "rng_position": int(rng["pos"])}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Restore the result of `state_dict`. Returns False, with nothing changed, if its layout or rank differs."""
        size, rank = sum(parameter.numel() for parameter in self._parameters), self._state.matrix_approximation_rank
        if state.get("layout") != LAYOUT or state.get("rank", rank) != rank:
            return False
        if any(error.numel() != size for error in state["error_dict"].values()):
            return False
        self._state.iter = int(state["iter"])
        for name in SAVED:
            if name != "iter":  # copied, because tensors from a file may be unaligned, which changes the rounding
                setattr(self._state, name, {index: tensor.clone() for index, tensor in state[name].items()})
        rng = {"key": state["rng"], "pos": state["rng_position"]}
        self._state.rng.set_state({"bit_generator": "MT19937", "state": rng})
        return True


class SingleBucket:
    """All gradients as one bucket, with the methods of `GradBucket` that torch's hook calls."""

    def __init__(self, gradients: list[torch.Tensor]) -> None:
        self._sources = gradients
        self._flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        pieces = self._flat.split([gradient.numel() for gradient in gradients])
        self._gradients = [piece.view(source.shape) for piece, source in zip(pieces, gradients, strict=True)]

    def index(self) -> int:
        return 0

    def is_last(self) -> bool:
        return True

    def buffer(self) -> torch.Tensor:
        return self._flat

    def gradients(self) -> list[torch.Tensor]:
        return self._gradients

    def copy_back(self) -> None:
        """Copy the exchanged gradients back to their original tensors."""
        copy_all(self._sources, self._gradients)

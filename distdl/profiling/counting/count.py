"""Count FLOPs of the forward pass and of both gradients, parameters and bytes of a network, layer by layer.

The network runs once on the meta device, where tensors have shapes but no elements, so that neither weights nor an
accelerator are needed.

For every torchvision classifier the FLOPs equal those that torchvision publishes with its weights (`_ops`, to 0.001
GMAC). The parameters are equal too, except for googlenet, whose published number does not include the auxiliary heads.
Conventions: only multiply-adds count; only gradients that are needed count, so none with respect to the images; in
causal attention only pairs that are not masked count; recomputation by checkpointing or a fused kernel does not count.
`Network.warnings` lists operations that are not counted.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from distdl.core.errors import UserError
from distdl.perf.cost.layers import Network
from distdl.profiling.counting.meta import eager_on_meta, meta_copy, to_meta
from distdl.profiling.counting.modes import watched
from distdl.profiling.counting.tracer import Tracer


def count(
    model: nn.Module,
    input_shape: Sequence[int] = (3, 224, 224),
    batch: int = 1,
    *,
    training: bool = False,
    inputs: Sequence[Any] | None = None,
    name: str | None = None,
    dtype_bytes: int | None = None,
) -> Network:
    """Count `model` for a batch of inputs. 1 multiply-add = 2 FLOPs.

    Args:
        model: any module. It is not changed: a copy of it runs on the meta device.
        input_shape: shape of one sample, without the batch dimension.
        batch: number of samples. The table is for all of them.
        training: count the network in training mode (auxiliary heads, dropout). FLOPs of gradients are included in
            either mode: those of every parameter with requires_grad, and of the activations on the way to one.
        inputs: arguments of forward, instead of a batch of float images of `input_shape`. Only their shapes and types
            matter; integers (token ids) are allowed.
        name: name of the network in the table; by default that of its class.
        dtype_bytes: bytes per floating-point element; by default that of the parameters' type.
    Returns:
        the table of layers, one row for each operator call.
    Raises:
        UserError: the network cannot process this input, or reads values of tensors, which the meta device does not
            have.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError("a TorchScript module cannot be counted: count the module from which it was made")
    with eager_on_meta():
        try:
            copy = meta_copy(model).train(training)
        except Exception as error:
            raise UserError(f"{type(model).__name__} cannot be copied to be counted: {error}") from error
        floats = [p for p in copy.parameters() if not is_lazy(p) and p.is_floating_point()]
        dtype = floats[0].dtype if floats else torch.get_default_dtype()
        if inputs is None:
            arguments: list[Any] = [torch.empty(batch, *input_shape, dtype=dtype)]
        else:
            shapes = {id(value): to_meta(value) for value in inputs if isinstance(value, Tensor)}
            arguments = [shapes.get(id(value), value) for value in inputs]  # the same tensor twice stays the same
        if any(is_lazy(parameter) for parameter in copy.parameters()):
            _run(copy, arguments)  # lazy modules learn their shapes from a first batch
        tracer = Tracer(copy, dtype_bytes or dtype.itemsize)
        with watched(tracer):
            _run(copy, arguments)
    return Network(
        model=name or type(model).__name__,
        input=tuple(input_shape) if inputs is None else tuple(arguments[0].shape[1:]),
        batch=batch,
        layers=(*tracer.layers, *tracer.not_run()),
        dtype_bytes=tracer.dtype_bytes,
        warnings=tuple(tracer.warnings),
    )


def _run(model: nn.Module, arguments: Sequence[Any]) -> None:
    try:
        model(*arguments)
    except UserError:
        raise
    except Exception as error:
        shapes = ", ".join("x".join(map(str, a.shape)) for a in arguments if isinstance(a, Tensor))
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        hint = "; use a batch of 2 or more" if "more than 1 value per channel" in reason else ""
        raise UserError(
            f"{type(model).__name__} cannot be counted at input {shapes} on the meta device: {reason}{hint}"
        ) from error

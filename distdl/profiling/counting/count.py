"""Count a network's work: FLOPs of the forward pass and of both gradients, parameters, bytes, layer by layer.

The network runs once on the meta device: shapes and no elements, so neither weights nor a device are needed.

For every torchvision classifier the FLOPs equal those that torchvision publishes with its weights (`_ops`, to 0.001
GMAC), and so do the parameters, except for googlenet, whose published figure leaves out the auxiliary heads.
Conventions: only multiply-adds count; only gradients that are needed, so none by the images; in causal attention only
the pairs that are not masked; recomputation by a checkpoint or a fused kernel does not count.
`Network.warnings` lists what a count on shapes leaves out.
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
    """Count `model` at a batch of inputs. 1 multiply-add = 2 FLOPs.

    Args:
        model: any module; it is neither changed nor run: a copy of it is, on the meta device.
        input_shape: shape of one sample, without the batch.
        batch: samples. The table is for all of them.
        training: run as `model.train()` would (auxiliary heads, dropout). The gradients' FLOPs are given either way:
            those of every parameter with requires_grad, and of the activations that lead to one.
        inputs: the arguments of forward, instead of a batch of float images of `input_shape`; only their shapes and
            types matter, and integers (token numbers) may be given.
        name: what the table calls the network.
        dtype_bytes: bytes a floating-point element; the parameters' own by default.
    Raises:
        UserError: the network does not run at this input, or looks at values, which the meta device has not.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError("a TorchScript module cannot be counted: count the module that it was made from")
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
            arguments = [shapes.get(id(value), value) for value in inputs]  # one tensor given twice stays one
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
        hint = "; a batch of 2 or more has what it needs" if "more than 1 value per channel" in reason else ""
        raise UserError(
            f"{type(model).__name__} cannot be counted at input {shapes}, by shapes and without values: {reason}{hint}"
        ) from error

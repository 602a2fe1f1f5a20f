"""The work of every operator that multiplies and adds: 1 multiply-add = 2 FLOPs.

A rule has the signature of its operator, with the operator's output put first, and returns its work. Biases, norms,
activations and pools are additions and comparisons over data that has to be moved anyway: they take bytes, not FLOPs.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distdl.profiling.counting.work import Factor, OperatorWork, product

Rule = Callable[..., OperatorWork]


def linear(out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> OperatorWork:
    """input [..., in], weight [out, in]: 2 in out FLOPs per row."""
    weight_2d = weight if weight.dim() == 2 else weight.unsqueeze(0)
    features = {"in_features": weight_2d.shape[1], "out_features": weight_2d.shape[0], "bias": bias is not None}
    flops = 2 * input.numel() * weight_2d.shape[0]
    return OperatorWork("dense", (product(flops, Factor((input,), False), Factor((weight,), True)),), features)


def convolution(
    out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any,
) -> OperatorWork:  # fmt: skip
    """weight [cout, cin / groups, *k], transposed [cin, cout / groups, *k].

    Every element of the output (transposed: of the input) takes one filter: weight.numel() / weight.shape[0] products.
    The gradients by input and by weight are convolutions with the same groups and the same number of products.
    """
    flops = 2 * (input if transposed else out).numel() * prod(weight.shape[1:])
    geometry = {
        "kernel": tuple(weight.shape[2:]), "stride": tuple(stride), "padding": tuple(padding),
        "dilation": tuple(dilation), "groups": groups, "bias": bias is not None, "transposed": transposed,
        "in_channels": input.shape[1 - len(weight.shape)], "out_channels": out.shape[1 - len(weight.shape)],
    }  # fmt: skip
    return OperatorWork("conv", (product(flops, Factor((input,), False), Factor((weight,), True)),), geometry)


def deform_conv2d(
    out: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, sh: int, sw: int,
    ph: int, pw: int, dh: int, dw: int, groups: int, *_: Any,
) -> OperatorWork:  # fmt: skip
    """A convolution of samples taken at offsets; the interpolation is not counted."""
    return convolution(out, input, weight, bias, (sh, sw), (ph, pw), (dh, dw), False, (0, 0), groups)


def attention(
    out: Tensor, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, **_: Any,
) -> OperatorWork:  # fmt: skip
    """query [..., heads, L, d], key [..., kv heads, S, d], value [..., kv heads, S, dv].

    2 (d + dv) FLOPs for each pair of a query and a key that is not masked. Under `is_causal` query i attends to keys
    0..i, and only those pairs count, as in the fused kernels. A mask given as a tensor is data: all pairs count.
    Grouped queries share keys, not work: the pairs are those of the query heads. The gradients by the four factors
    cost one product each; recomputation in the backward pass of a fused kernel does not count.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    pairs = sum(min(i + 1, keys) for i in range(queries)) if is_causal else queries * keys
    pairs *= prod(query.shape[:-2])
    geometry = {
        "heads": query.shape[-3] if query.dim() > 2 else 1, "kv_heads": key.shape[-3] if key.dim() > 2 else 1,
        "sequence": queries, "kv_sequence": keys, "head_dim": query.shape[-1], "causal": bool(is_causal),
    }  # fmt: skip
    scores = product(2 * pairs * query.shape[-1], Factor((query,), False), Factor((key,), False))
    mixed = product(2 * pairs * value.shape[-1], Factor((query, key), False), Factor((value,), False))
    return OperatorWork("attention", (scores, mixed), geometry)


def _fused_attention(causal_at: int) -> Rule:
    def rule(out: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> OperatorWork:
        causal = named.get("is_causal", rest[causal_at - 3] if len(rest) > causal_at - 3 else False)
        return attention(out, query, key, value, is_causal=causal)

    return rule


def matrix_product(out: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """a [n, k] times b [k, m], or vectors."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    geometry = {"in_features": a.shape[-1], "out_features": columns}
    return OperatorWork("dense", (product(2 * a.numel() * columns, a, b),), geometry)


def batched_product(out: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """a [batch, n, k] times b [batch, k, m]: with two activations this is attention, written out."""
    geometry = {"heads": a.shape[0], "sequence": a.shape[1], "in_features": a.shape[2], "out_features": b.shape[2]}
    return OperatorWork("attention", matrix_product(out, a, b).products, geometry)


def _added(rule: Rule) -> Rule:
    return lambda out, start, *args, **options: replace(rule(out, *args, **options), input=args[0])


def bilinear(out: Tensor, x: Tensor, weight: Tensor, y: Tensor, *_: Any) -> OperatorWork:
    """out[n, o] = sum_ij x[n, i] weight[o, i, j] y[n, j], as two contractions: by i, then by j."""
    outputs, first, second = weight.shape[-3:]
    rows = x.numel() // first
    inner = product(2 * rows * outputs * first * second, Factor((x,), False), Factor((weight,), True))
    outer = product(2 * rows * outputs * second, Factor((x, weight), False), Factor((y,), False))
    geometry = {"in_features": (first, second), "out_features": outputs}
    return OperatorWork("dense", (inner, outer), geometry)


def _recurrent(gates: int) -> Rule:
    """A whole LSTM, GRU or RNN: each step multiplies its input and its state by the weights of all gates."""

    def rule(out: tuple[Tensor, ...], input: Tensor, *args: Any) -> OperatorWork:
        packed = not isinstance(args[2], bool)  # a packed sequence comes with its batch sizes, one argument more
        weights, layers, directions = args[1 + packed], args[3 + packed], 1 + args[6 + packed]
        steps = input.numel() // input.shape[-1]
        matrices = [weight for weight in weights if weight.dim() == 2]
        per_cell = len(matrices) // (layers * directions)
        products = []
        for place, matrix in enumerate(matrices):
            layer, which = place // (per_cell * directions), place % per_cell
            # The first layer reads the input; all else is fed by weights, whose gradient passes through it.
            source = Factor((input,) if layer == which == 0 else (input, *weights), False)
            products.append(product(2 * steps * matrix.numel(), source, Factor((matrix,), True)))
        geometry = {
            "layers": layers, "directions": directions, "gates": gates, "in_features": input.shape[-1],
            "out_features": out[0].shape[-1], "sequence": None if packed else input.shape[1 if args[7] else 0],
        }  # fmt: skip
        return OperatorWork("recurrent", tuple(products), geometry)

    return rule


def recurrent_cell(
    out: Any, input: Tensor, hidden: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> OperatorWork:  # fmt: skip
    state = hidden[0] if isinstance(hidden, list | tuple) else hidden
    rows = input.numel() // input.shape[-1]
    products = (
        product(2 * rows * w_ih.numel(), Factor((input,), False), Factor((w_ih,), True)),
        product(2 * rows * w_hh.numel(), Factor((state,), False), Factor((w_hh,), True)),
    )
    return OperatorWork("recurrent", products, {"in_features": w_ih.shape[1], "out_features": w_hh.shape[1]})


def embedding(out: Tensor, weight: Tensor, indices: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """A gather: it reads the rows that it is asked for, and multiplies nothing."""
    rows, features = weight.shape
    geometry = {"rows": rows, "out_features": features}
    return OperatorWork("embedding", geometry=geometry, input=indices, read=indices.numel() * features)


def pool(out: Any, input: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, *_: Any) -> OperatorWork:
    return OperatorWork("pool", geometry={"window": tuple(kernel), "stride": tuple(stride or kernel)})


def adaptive_pool(out: Any, input: Tensor, size: Any) -> OperatorWork:
    """Windows overlap where sizes do not divide: the largest is given."""
    window = tuple(-(-i // o) for i, o in zip(input.shape[-len(size) :], size, strict=True))
    return OperatorWork("pool", geometry={"window": window, "stride": window})


def mean(out: Tensor, input: Tensor, dim: Any = None, *_: Any, **__: Any) -> OperatorWork:
    """Over all that follows the channels it is global pooling, which is what nn.AdaptiveAvgPool2d(1) runs."""
    dims = sorted(d % input.dim() for d in dim) if dim else list(range(input.dim()))
    window = tuple(input.shape[d] for d in dims)
    globally = dims == list(range(2, input.dim()))
    return OperatorWork("pool", geometry={"window": window, "stride": window}) if globally else OperatorWork("other")


def activation(out: Tensor, input: Tensor, *_: Any, **__: Any) -> OperatorWork:
    return OperatorWork("activation")


def norm(out: Tensor, input: Tensor, *_: Any, **__: Any) -> OperatorWork:
    return OperatorWork("norm")


def local_response_norm(out: Tensor, input: Tensor, size: int, *_: Any, **__: Any) -> OperatorWork:
    return OperatorWork("norm", geometry={"window": (size,), "channels": input.shape[1]})


FUNCTIONS: dict[Callable[..., Any], Rule] = {
    F.linear: linear,
    F.scaled_dot_product_attention: attention,
    F.local_response_norm: local_response_norm,
    F.rms_norm: norm,
    torch.rms_norm: norm,
    torch.lstm: _recurrent(4),
    torch.gru: _recurrent(3),
    torch.rnn_tanh: _recurrent(1),
    torch.rnn_relu: _recurrent(1),
    torch.lstm_cell: recurrent_cell,
    torch.gru_cell: recurrent_cell,
    torch.rnn_tanh_cell: recurrent_cell,
    torch.rnn_relu_cell: recurrent_cell,
    # In place, autograd copies the input of these first: that is its own affair, not a layer.
    **dict.fromkeys((F.relu6, F.hardtanh, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.elu, F.leaky_relu), activation),
}
"""Functions that torch decomposes into operators from which the function can no longer be recognized."""

OPERATORS: dict[str, Rule] = {
    "aten.convolution": convolution,
    "aten._convolution": convolution,
    "torchvision.deform_conv2d": deform_conv2d,
    "aten.linear": linear,
    "aten.mm": matrix_product,
    "aten.bmm": batched_product,
    "aten.mv": matrix_product,
    "aten.dot": matrix_product,
    "aten.vdot": matrix_product,
    "aten.addmm": _added(matrix_product),
    "aten.addmm_": _added(matrix_product),
    "aten._addmm_activation": _added(matrix_product),
    "aten.baddbmm": _added(batched_product),
    "aten.baddbmm_": _added(batched_product),
    "aten.addbmm": _added(batched_product),
    "aten.addmv": _added(matrix_product),
    "aten._trilinear": bilinear,
    "aten._scaled_dot_product_flash_attention": _fused_attention(4),
    "aten._scaled_dot_product_flash_attention_for_cpu": _fused_attention(4),
    "aten._scaled_dot_product_efficient_attention": _fused_attention(6),
    "aten._scaled_dot_product_cudnn_attention": _fused_attention(6),
    "aten._scaled_dot_product_fused_attention_overrideable": _fused_attention(5),
    "aten.embedding": embedding,
    "aten._embedding_bag": embedding,
    "aten._embedding_bag_forward_only": embedding,
    "aten.max_pool2d_with_indices": pool,
    "aten.max_pool3d_with_indices": pool,
    "aten.avg_pool2d": pool,
    "aten.avg_pool3d": pool,
    "aten._adaptive_avg_pool2d": adaptive_pool,
    "aten._adaptive_avg_pool3d": adaptive_pool,
    "aten.adaptive_max_pool2d": adaptive_pool,
    "aten.adaptive_max_pool3d": adaptive_pool,
    "aten.mean": mean,
}
"""Operators as the dispatcher names them."""


def _batch_norm_shapes(input: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistics = input.new_empty(input.shape[1])
    return torch.empty_like(input), statistics, torch.empty_like(statistics)


SHAPES: dict[str, Callable[..., Any]] = {
    "aten.native_batch_norm": _batch_norm_shapes,
    "aten.addmm": lambda bias, a, b, *_: a.new_empty(a.shape[0], b.shape[1]),
}
"""Results of common operators for which torch's own shape functions take milliseconds: half the time of a count."""

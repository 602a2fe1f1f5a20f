"""Rules that count the work of operators with multiply-adds: 1 multiply-add = 2 FLOPs.

A rule has the parameters of its operator after the operator's output, and returns the work. Biases, norms, activations
and pools are additions and comparisons whose time is that of moving their data: they have bytes but no FLOPs.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distdl.profiling.counting.work import OperatorWork, ProductFactor, product

CountingRule = Callable[..., OperatorWork]


def linear(out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> OperatorWork:
    """Count input [..., in] times weight [out, in]: 2 in out FLOPs per row."""
    weight_2d = weight if weight.dim() == 2 else weight.unsqueeze(0)
    features = {"in_features": weight_2d.shape[1], "out_features": weight_2d.shape[0], "bias": bias is not None}
    flops = 2 * input.numel() * weight_2d.shape[0]
    return OperatorWork(
        "dense", (product(flops, ProductFactor((input,), False), ProductFactor((weight,), True)),), features
    )


def convolution(
    out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any,
) -> OperatorWork:  # fmt: skip
    """Count a convolution with weight [cout, cin / groups, *k], or transposed [cin, cout / groups, *k].

    Every element of the output (transposed: of the input) needs weight.numel() / weight.shape[0] multiply-adds. The
    gradients with respect to input and weight are convolutions with the same groups and the same number of FLOPs.
    """
    flops = 2 * (input if transposed else out).numel() * prod(weight.shape[1:])
    geometry = {
        "kernel": tuple(weight.shape[2:]), "stride": tuple(stride), "padding": tuple(padding),
        "dilation": tuple(dilation), "groups": groups, "bias": bias is not None, "transposed": transposed,
        "in_channels": input.shape[1 - len(weight.shape)], "out_channels": out.shape[1 - len(weight.shape)],
    }  # fmt: skip
    return OperatorWork(
        "conv", (product(flops, ProductFactor((input,), False), ProductFactor((weight,), True)),), geometry
    )


def deform_conv2d(
    out: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, sh: int, sw: int,
    ph: int, pw: int, dh: int, dw: int, groups: int, *_: Any,
) -> OperatorWork:  # fmt: skip
    """Count a deformable convolution as a convolution; the interpolation is not counted."""
    return convolution(out, input, weight, bias, (sh, sw), (ph, pw), (dh, dw), False, (0, 0), groups)


def attention(
    out: Tensor, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, **_: Any,
) -> OperatorWork:  # fmt: skip
    """Count attention of query [..., heads, L, d], key [..., kv heads, S, d], value [..., kv heads, S, dv].

    Each pair of a query and a key that is not masked has 2 (d + dv) FLOPs. With `is_causal`, query i attends to keys
    0..i, and only these pairs count, as in fused kernels. With a mask tensor all pairs count, since its values are not
    known. Grouped-query attention has the pairs of all query heads. Each of the four gradients costs one product;
    recomputation in the backward pass of a fused kernel does not count.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    pairs = sum(min(i + 1, keys) for i in range(queries)) if is_causal else queries * keys
    pairs *= prod(query.shape[:-2])
    geometry = {
        "heads": query.shape[-3] if query.dim() > 2 else 1, "kv_heads": key.shape[-3] if key.dim() > 2 else 1,
        "sequence": queries, "kv_sequence": keys, "head_dim": query.shape[-1], "causal": bool(is_causal),
    }  # fmt: skip
    scores = product(2 * pairs * query.shape[-1], ProductFactor((query,), False), ProductFactor((key,), False))
    mixed = product(2 * pairs * value.shape[-1], ProductFactor((query, key), False), ProductFactor((value,), False))
    return OperatorWork("attention", (scores, mixed), geometry)


def _fused_attention(causal_at: int) -> CountingRule:
    def rule(out: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> OperatorWork:
        causal = named.get("is_causal", rest[causal_at - 3] if len(rest) > causal_at - 3 else False)
        return attention(out, query, key, value, is_causal=causal)

    return rule


def matrix_product(out: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """Count a [n, k] times b [k, m], or vectors."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    geometry = {"in_features": a.shape[-1], "out_features": columns}
    return OperatorWork("dense", (product(2 * a.numel() * columns, a, b),), geometry)


def batched_product(out: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """Count a [batch, n, k] times b [batch, k, m]. If both are activations, this is part of explicit attention."""
    geometry = {"heads": a.shape[0], "sequence": a.shape[1], "in_features": a.shape[2], "out_features": b.shape[2]}
    return OperatorWork("attention", matrix_product(out, a, b).products, geometry)


def _with_addend(rule: CountingRule) -> CountingRule:
    return lambda out, start, *args, **options: replace(rule(out, *args, **options), input=args[0])


def bilinear(out: Tensor, x: Tensor, weight: Tensor, y: Tensor, *_: Any) -> OperatorWork:
    """Count out[n, o] = sum_ij x[n, i] weight[o, i, j] y[n, j] as two contractions: over i, then over j."""
    outputs, first, second = weight.shape[-3:]
    rows = x.numel() // first
    inner = product(2 * rows * outputs * first * second, ProductFactor((x,), False), ProductFactor((weight,), True))
    outer = product(2 * rows * outputs * second, ProductFactor((x, weight), False), ProductFactor((y,), False))
    geometry = {"in_features": (first, second), "out_features": outputs}
    return OperatorWork("dense", (inner, outer), geometry)


def _recurrent(gates: int) -> CountingRule:
    """Return the rule of an LSTM, GRU or RNN: each step multiplies its input and state by the weights of all gates."""

    def rule(out: tuple[Tensor, ...], input: Tensor, *args: Any) -> OperatorWork:
        packed = not isinstance(args[2], bool)  # a packed sequence has its batch sizes as an additional argument
        weights, layers, directions = args[1 + packed], args[3 + packed], 1 + args[6 + packed]
        steps = input.numel() // input.shape[-1]
        matrices = [weight for weight in weights if weight.dim() == 2]
        per_cell = len(matrices) // (layers * directions)
        products = []
        for index, matrix in enumerate(matrices):
            layer, matrix_in_cell = index // (per_cell * directions), index % per_cell
            # Only the first product of the first layer has the input as factor; others depend on weights as well.
            source = ProductFactor((input,) if layer == matrix_in_cell == 0 else (input, *weights), False)
            products.append(product(2 * steps * matrix.numel(), source, ProductFactor((matrix,), True)))
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
    """Count one step of an LSTM, GRU or RNN."""
    state = hidden[0] if isinstance(hidden, list | tuple) else hidden
    rows = input.numel() // input.shape[-1]
    products = (
        product(2 * rows * w_ih.numel(), ProductFactor((input,), False), ProductFactor((w_ih,), True)),
        product(2 * rows * w_hh.numel(), ProductFactor((state,), False), ProductFactor((w_hh,), True)),
    )
    return OperatorWork("recurrent", products, {"in_features": w_ih.shape[1], "out_features": w_hh.shape[1]})


def embedding(out: Tensor, weight: Tensor, indices: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """Count an embedding: it reads the selected rows, and has no FLOPs."""
    rows, features = weight.shape
    geometry = {"rows": rows, "out_features": features}
    return OperatorWork("embedding", geometry=geometry, input=indices, read=indices.numel() * features)


def pool(out: Any, input: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, *_: Any) -> OperatorWork:
    """Describe a pooling operator; it has no FLOPs."""
    return OperatorWork("pool", geometry={"window": tuple(kernel), "stride": tuple(stride or kernel)})


def adaptive_pool(out: Any, input: Tensor, size: Any) -> OperatorWork:
    """Describe adaptive pooling by its largest window; windows overlap if the sizes do not divide."""
    window = tuple(-(-i // o) for i, o in zip(input.shape[-len(size) :], size, strict=True))
    return OperatorWork("pool", geometry={"window": window, "stride": window})


def mean(out: Tensor, input: Tensor, dim: Any = None, *_: Any, **__: Any) -> OperatorWork:
    """Describe a mean; over all dimensions after the channels it is global pooling, as in nn.AdaptiveAvgPool2d(1)."""
    dims = sorted(d % input.dim() for d in dim) if dim else list(range(input.dim()))
    window = tuple(input.shape[d] for d in dims)
    is_global = dims == list(range(2, input.dim()))
    return OperatorWork("pool", geometry={"window": window, "stride": window}) if is_global else OperatorWork("other")


def activation(out: Tensor, input: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """Describe an activation; it has no FLOPs."""
    return OperatorWork("activation")


def norm(out: Tensor, input: Tensor, *_: Any, **__: Any) -> OperatorWork:
    """Describe a normalization; it has no FLOPs."""
    return OperatorWork("norm")


def local_response_norm(out: Tensor, input: Tensor, size: int, *_: Any, **__: Any) -> OperatorWork:
    """Describe a local response normalization over `size` channels; it has no FLOPs."""
    return OperatorWork("norm", geometry={"window": (size,), "channels": input.shape[1]})


FUNCTIONS: dict[Callable[..., Any], CountingRule] = {
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
    # For in-place calls autograd first copies the input; this copy is not a layer.
    **dict.fromkeys((F.relu6, F.hardtanh, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.elu, F.leaky_relu), activation),
}
"""Rules of functions that torch decomposes into operators from which the function cannot be recognized."""

OPERATORS: dict[str, CountingRule] = {
    "aten.convolution": convolution,
    "aten._convolution": convolution,
    "torchvision.deform_conv2d": deform_conv2d,
    "aten.linear": linear,
    "aten.mm": matrix_product,
    "aten.bmm": batched_product,
    "aten.mv": matrix_product,
    "aten.dot": matrix_product,
    "aten.vdot": matrix_product,
    "aten.addmm": _with_addend(matrix_product),
    "aten.addmm_": _with_addend(matrix_product),
    "aten._addmm_activation": _with_addend(matrix_product),
    "aten.baddbmm": _with_addend(batched_product),
    "aten.baddbmm_": _with_addend(batched_product),
    "aten.addbmm": _with_addend(batched_product),
    "aten.addmv": _with_addend(matrix_product),
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
"""Rules of operators by their names in the dispatcher."""


def _batch_norm_shapes(input: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistics = input.new_empty(input.shape[1])
    return torch.empty_like(input), statistics, torch.empty_like(statistics)


SHAPES: dict[str, Callable[..., Any]] = {
    "aten.native_batch_norm": _batch_norm_shapes,
    "aten.addmm": lambda bias, a, b, *_: a.new_empty(a.shape[0], b.shape[1]),
}
"""Shape functions of common operators for which torch's own take milliseconds: half of the time of a count."""

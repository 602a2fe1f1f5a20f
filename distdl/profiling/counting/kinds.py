"""Kinds of operators without multiplications, by which a predictor estimates their traffic."""

from typing import Any

import torch

NORM = {
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update", "_batch_norm_no_update", "native_layer_norm", "native_group_norm", "_fused_rms_norm",
    "renorm", "_weight_norm_interface",
}  # fmt: skip
ACTIVATION = {
    "relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "_prelu_kernel", "rrelu_with_noise", "elu", "elu_", "celu",
    "selu", "gelu", "silu", "silu_", "mish", "mish_", "hardtanh", "hardtanh_", "hardswish", "hardswish_",
    "hardsigmoid", "hardsigmoid_", "sigmoid", "sigmoid_", "tanh", "tanh_", "softplus", "glu", "log_sigmoid_forward",
    "threshold", "threshold_", "_softmax", "_safe_softmax", "_log_softmax", "hardshrink", "softshrink",
}  # fmt: skip
POOL = {
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "fractional_max_pool2d",
}  # fmt: skip
MOVES = {
    "cat", "stack", "clone", "copy_", "_to_copy", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "roll",
    "repeat", "flip", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_dropout", "upsample_nearest2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "tril", "triu", "masked_fill_",
    "masked_fill", "fill_", "new_zeros", "new_ones", "new_full", "zero_", "bernoulli_", "im2col", "col2im",
    "grid_sampler_2d",
}  # fmt: skip
ALLOCATIONS = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_", "resize_", "lift_fresh",
    "_local_scalar_dense", "is_same_size",
}  # fmt: skip
"""Operators that move no data: they get no row."""
QUIET = {
    "sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "var", "var_mean", "std", "any", "all", "prod",
    "cumsum", "sort", "topk", "index", "index_put_", "index_put", "index_select", "index_add", "gather", "scatter",
    "scatter_", "scatter_add", "scatter_add_", "select_scatter", "slice_scatter", "one_hot", "unfold", "logsumexp",
    "linalg_vector_norm", "norm", "nonzero", "unique", "argsort", "bincount", "arange", "linspace", "scalar_tensor",
    "rand", "randn", "randint", "randperm", "normal_", "uniform_", "random_", "exponential_", "isin", "searchsorted",
    "cumprod", "median", "kthvalue", "_efficientzerotensor", "rand_like", "randn_like", "bernoulli", "native_norm",
    "diagonal_copy", "nll_loss_forward", "nll_loss2d_forward", "mse_loss", "multinomial", "eye", "masked_select",
}  # fmt: skip
"""Operators that are known to have no relevant FLOPs. Operators in none of these sets count 0 FLOPs with a warning."""


def kind_of(name: str, operator: Any) -> tuple[str, bool]:
    """Return the kind of `namespace.operator`, and whether it is known to have no FLOPs to count."""
    namespace, _, short = name.partition(".")
    if namespace != "aten":
        return "other", False
    for kind, names in (("norm", NORM), ("activation", ACTIVATION), ("pool", POOL), ("elementwise", MOVES)):
        if short in names:
            return kind, True
    if torch.Tag.pointwise in operator.tags:
        return "elementwise", True
    return "other", short in QUIET

"""Counts of operators, compared with hand calculations. MAC = multiply-add."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from distdl.perf.cost.layers import Layer, Network
from distdl.profiling.counting.count import count


class Call(nn.Module):
    """A function as a module, with tensors that are parameters and need gradients."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, shape in parameters.items():
            setattr(self, name, nn.Parameter(torch.empty(shape)))

    def forward(self, *inputs):
        return self.function(*inputs, *self.parameters())


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def only(network: Network) -> Layer:
    (layer,) = network.layers
    return layer


@pytest.mark.parametrize("groups", [1, 2, 64])
def test_each_gradient_of_a_grouped_convolution_costs_as_much_as_forward(groups):
    first, grouped = count(nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, groups=groups)), (3, 10, 10)).layers
    macs = 64 * 8 * 8 * (64 // groups) * 9
    assert grouped.forward_flops == grouped.input_grad_flops == grouped.weight_grad_flops == 2 * macs
    assert (first.input_grad_flops, first.weight_grad_flops) == (0, first.forward_flops)
    assert grouped.geometry["groups"] == groups and grouped.geometry["kernel"] == (3, 3)


def test_depthwise_backward_is_twice_the_forward():
    model = nn.Conv2d(64, 64, 3, groups=64, padding=1)
    layer = only(count(model, inputs=[empty(1, 64, 8, 8).requires_grad_()]))
    assert (layer.input_grad_flops + layer.weight_grad_flops) / layer.forward_flops == 2


@pytest.mark.parametrize(
    ("model", "shape", "macs"),
    [
        (nn.Conv1d(4, 6, 3), (4, 10), 6 * 8 * 4 * 3),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), (4, 9, 9), 6 * 4 * 4 * 4 * 9),
        (nn.Conv3d(2, 4, (1, 3, 3)), (2, 5, 8, 8), 4 * 5 * 6 * 6 * 2 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 5, 5), 4 * 5 * 5 * 3 * 4),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (4, 5, 5), 6 * 25 * 4 * 9),
    ],
)
def test_convolutions_match_hand_calculation(model, shape, macs):
    network = count(model, shape, batch=3)
    assert network.forward_flops == 2 * 3 * macs
    assert network.training_flops == 2 * network.forward_flops


QUERIES, KEYS, WIDTH = 7, 5, 16


@pytest.mark.parametrize(("options", "pairs"), [({}, QUERIES * KEYS), ({"is_causal": True}, 1 + 2 + 3 + 4 + 5 + 5 + 5)])
def test_attention_counts_the_unmasked_pairs(options, pairs):
    query = empty(2, 8, QUERIES, WIDTH).requires_grad_()
    key, value = empty(2, 8, KEYS, WIDTH).requires_grad_(), empty(2, 8, KEYS, 12).requires_grad_()
    layer = only(count(Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)),
                       inputs=[query, key, value]))  # fmt: skip
    assert layer.kind == "attention"
    assert layer.forward_flops == 2 * 2 * 8 * pairs * (WIDTH + 12)
    assert layer.input_grad_flops == 2 * layer.forward_flops and layer.weight_grad_flops == 0


def test_grouped_queries_cost_as_much_as_ungrouped_ones():
    query, key = empty(2, 8, 6, 16), empty(2, 2, 6, 16)
    layer = only(
        count(Call(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)), inputs=[query, key])
    )
    assert layer.forward_flops == 2 * 2 * 8 * 6 * 6 * (16 + 16)
    assert (layer.geometry["heads"], layer.geometry["kv_heads"]) == (8, 2)
    assert layer.read_bytes == 4 * (query.numel() + 2 * key.numel())


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("_scaled_dot_product_flash_attention", (0.0, True)),
        ("_scaled_dot_product_flash_attention_for_cpu", (0.0, True)),
        ("_scaled_dot_product_efficient_attention", (None, False, 0.0, True)),
        ("_scaled_dot_product_cudnn_attention", (None, False, 0.0, True)),
    ],
)
def test_fused_attention_operators(operator, arguments):
    query = empty(2, 4, 6, 16)
    function = getattr(torch.ops.aten, operator)
    layer = only(count(Call(lambda q: function(q, q, q, *arguments)[0]), inputs=[query]))
    assert layer.forward_flops == 2 * 2 * 4 * 21 * (16 + 16)


class Without(nn.Module):
    """Runs a module in the context `mode`, as inference code does."""

    def __init__(self, module, mode):
        super().__init__()
        self.module, self.mode = module, mode

    def forward(self, *inputs):
        with self.mode():
            return self.module(*inputs)


MODES = [torch.no_grad, torch.inference_mode]
EMBED, HEADS, LENGTH = 32, 4, 10
MULTIHEAD_MACS = LENGTH * EMBED * 3 * EMBED + 2 * LENGTH * LENGTH * EMBED + LENGTH * EMBED * EMBED


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_multihead_attention(training, need_weights):
    class SelfAttention(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x, need_weights=need_weights)[0]

    network = count(SelfAttention(EMBED, HEADS, batch_first=True), (LENGTH, EMBED), batch=2, training=training)
    assert network.forward_flops == 2 * 2 * MULTIHEAD_MACS
    assert {layer.kind for layer in network.layers if layer.forward_flops} == {"dense", "attention"}
    assert network.parameters == 3 * EMBED * EMBED + 3 * EMBED + EMBED * EMBED + EMBED


@pytest.mark.parametrize("mode", MODES)
def test_multihead_attention_in_eval_without_gradients(mode):
    # On a CPU its fast path is one operator, which torch's counter counts as 0.
    x = empty(2, LENGTH, EMBED)
    network = count(Without(nn.MultiheadAttention(EMBED, HEADS, batch_first=True), mode), inputs=[x, x, x])
    assert network.forward_flops == network.training_flops == 2 * 2 * MULTIHEAD_MACS


def test_causal_multihead_attention_counts_half_of_the_pairs():
    class Causal(nn.MultiheadAttention):
        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return super().forward(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]

    network = count(Causal(EMBED, HEADS, batch_first=True), (LENGTH, EMBED))
    (attention,) = (layer for layer in network.layers if layer.kind == "attention")
    assert attention.forward_flops == 2 * 2 * (LENGTH * (LENGTH + 1) // 2) * EMBED


def test_rows_of_a_transformer_layer_have_the_names_of_its_modules():
    layer = nn.TransformerEncoderLayer(EMBED, HEADS, 64, batch_first=True)
    network = count(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), (LENGTH, EMBED))
    assert network.forward_flops == 2 * 2 * (MULTIHEAD_MACS + 2 * LENGTH * EMBED * 64)
    names = [row.name for row in network.layers if row.forward_flops][:5]
    assert names == [f"layers.0.{part}" for part in
                     ("self_attn", "self_attn", "self_attn.out_proj", "linear1", "linear2")]  # fmt: skip


def recurrent_macs(gates: int, inputs: int, hidden: int) -> int:
    return gates * hidden * (inputs + hidden)


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (nn.RNN(4, 8), recurrent_macs(1, 4, 8)),
        (nn.RNN(4, 8, nonlinearity="relu"), recurrent_macs(1, 4, 8)),
        (nn.GRU(4, 8, batch_first=True), recurrent_macs(3, 4, 8)),
        (nn.LSTM(4, 8, 2), recurrent_macs(4, 4, 8) + recurrent_macs(4, 8, 8)),
        (nn.LSTM(4, 8, 2, bidirectional=True), 2 * recurrent_macs(4, 4, 8) + 2 * recurrent_macs(4, 16, 8)),
        (nn.LSTM(4, 8, proj_size=3, bias=False), 4 * 8 * (4 + 3) + 3 * 8),
    ],
)
@pytest.mark.parametrize("mode", [None, *MODES])
def test_recurrent_networks_match_hand_calculation(model, macs, mode):
    layer = only(count(Without(model, mode) if mode else model, inputs=[empty(6, 5, 4)]))
    assert layer.kind == "recurrent"
    assert layer.forward_flops == 2 * 6 * 5 * macs
    if mode is None:
        assert layer.weight_grad_flops == layer.forward_flops
        first = 2 * 6 * 5 * model.weight_ih_l0.numel() * (2 if model.bidirectional else 1)
        assert layer.input_grad_flops == layer.forward_flops - first  # the input data needs no gradient


def test_a_packed_sequence_counts_its_actual_steps():
    class Packed(nn.LSTM):
        def forward(self, data):
            return super().forward(PackedSequence(data, torch.tensor([2, 2, 1], device="cpu")))[0].data

    assert only(count(Packed(4, 8), inputs=[empty(5, 4)])).forward_flops == 2 * 5 * recurrent_macs(4, 4, 8)


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_recurrent_cells(cell, gates):
    layer = only(count(cell(4, 8), inputs=[empty(5, 4)]))
    assert (layer.kind, layer.forward_flops) == ("recurrent", 2 * 5 * recurrent_macs(gates, 4, 8))


@pytest.mark.parametrize("mode", [None, *MODES])
def test_bilinear_matches_hand_calculation(mode):
    model = nn.Bilinear(4, 5, 6, bias=False)
    network = count(Without(model, mode) if mode else model, inputs=[empty(7, 4), empty(7, 5)])
    assert network.forward_flops == 2 * 7 * 6 * (4 * 5 + 5)


@pytest.mark.parametrize(
    ("function", "inputs", "macs"),
    [
        (torch.mv, [(3, 4), (4,)], 12),
        (torch.dot, [(5,), (5,)], 5),
        (torch.matmul, [(2, 3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (torch.matmul, [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (torch.addmm, [(3, 5), (3, 4), (4, 5)], 3 * 4 * 5),
        (torch.addmv, [(3,), (3, 4), (4,)], 12),
        (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b: torch.einsum("nij,njk->nik", a, b), [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b: torch.tensordot(a, b, dims=2), [(3, 4, 5), (4, 5, 6)], 3 * 20 * 6),
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 3 * 4 * 5),
        (F.linear, [(2, 3, 4), (5, 4)], 2 * 3 * 4 * 5),
    ],
)
@pytest.mark.parametrize("mode", [None, *MODES])
def test_products_match_hand_calculation(function, inputs, macs, mode):
    model = Call(function)
    tensors = [empty(*shape) for shape in inputs]
    assert count(Without(model, mode) if mode else model, inputs=tensors).forward_flops == 2 * macs


def test_a_product_with_a_parameter_is_dense_and_one_of_activations_is_attention():
    weighted = count(Call(torch.matmul, weight=(4, 5)), inputs=[empty(2, 3, 4)])
    (product,) = (layer for layer in weighted.layers if layer.forward_flops)
    assert (product.kind, product.weight_grad_flops, product.input_grad_flops) == ("dense", product.forward_flops, 0)
    query = empty(2, 3, 4).requires_grad_()
    (product,) = (row for row in count(Call(lambda q: q @ q.mT), inputs=[query]).layers if row.forward_flops)
    assert (product.kind, product.input_grad_flops) == ("attention", 2 * product.forward_flops)


def test_an_embedding_reads_its_rows_and_has_no_flops():
    layer = only(count(nn.Embedding(1000, 16), inputs=[torch.zeros(2, 3, dtype=torch.int64)]))
    assert (layer.kind, layer.forward_flops, layer.parameters) == ("embedding", 0, 16000)
    assert (layer.input_shape, layer.output_shape) == ((2, 3), (2, 3, 16))
    assert layer.read_bytes == 6 * 16 * 4 + 6 * 8


@pytest.mark.parametrize(
    ("model", "kind", "window"),
    [
        (nn.MaxPool2d(3, 2), "pool", (3, 3)),
        (nn.AvgPool2d(2), "pool", (2, 2)),
        (nn.AdaptiveAvgPool2d(1), "pool", (8, 8)),
        (nn.AdaptiveAvgPool2d(4), "pool", (2, 2)),
        (nn.AdaptiveMaxPool2d(2), "pool", (4, 4)),
        (nn.LocalResponseNorm(5), "norm", (5,)),
        (nn.GroupNorm(2, 4), "norm", None),
        (nn.LayerNorm(8), "norm", None),
        (nn.BatchNorm2d(4), "norm", None),
        (nn.RMSNorm(8), "norm", None),
        (nn.ReLU6(inplace=True), "activation", None),
        (nn.SiLU(inplace=True), "activation", None),
        (nn.GELU(), "activation", None),
        (nn.Softmax(-1), "activation", None),
        (nn.Upsample(scale_factor=2), "elementwise", None),
        (nn.ZeroPad2d(1), "elementwise", None),
    ],
)
def test_an_operator_without_products_is_one_row_of_its_kind(model, kind, window):
    network = count(nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), model), (4, 8, 8))
    _, layer = network.layers
    assert (layer.kind, layer.forward_flops, layer.name) == (kind, 0, "1")
    assert layer.geometry.get("window") == window
    assert layer.read_bytes >= 4 * 256 and layer.write_bytes > 0
    assert network.warnings == ()

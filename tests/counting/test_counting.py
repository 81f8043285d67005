"""Counts of operators against counts by hand: multiply-adds, bytes, arithmetic, what training keeps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from counting_steps import FLOAT, C, H, N, P, Steps, W, X
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import foveate
from foveate.counting import Row, Work, count, macs_on_zeros, register_operator


def rows_of(run, *x, **needs):
    return count(Steps(run, **needs), x or (X,), kept=False).rows


PRODUCTS = [
    ("conv", nn.Conv2d(8, 12, 3, padding=1), X, N * P * 12 * 8 * 9),
    ("strided", nn.Conv2d(8, 12, 3, stride=2, bias=False), X, N * 2 * 2 * 12 * 8 * 9),
    ("depthwise", nn.Conv2d(8, 8, (5, 3), padding=(2, 1), groups=8), X, N * P * 8 * 15),
    ("groups", nn.Conv2d(8, 12, 1, groups=4), X, N * P * 12 * 2),
    ("dilated", nn.Conv2d(8, 3, 3, dilation=2), X, N * 2 * 1 * 3 * 8 * 9),
    ("transposed", nn.ConvTranspose2d(8, 3, 2, stride=2), X, N * P * 3 * 8 * 4),
    ("conv 1-D", nn.Conv1d(8, 4, 3), X[..., 0], N * 4 * 4 * 8 * 3),
    ("conv 3-D", nn.Conv3d(8, 4, 2), X[..., None, :].expand(N, C, H, 3, W), N * 5 * 2 * 4 * 4 * 8 * 8),
    ("linear", nn.Linear(5, 7), X, N * C * H * 5 * 7),
    ("linear of one vector", nn.Linear(5, 7, bias=False), X[0, 0, 0], 5 * 7),
    ("matmul", Steps(lambda s, x: x @ x.mT), X, N * C * H * H * W),
    ("matmul of a vector", Steps(lambda s, x: x.flatten(1) @ x[0].flatten()), X, N * C * P),
    ("dot", Steps(lambda s, x: x.flatten() @ x.flatten()), X, N * C * P),
    ("einsum", Steps(lambda s, x: torch.einsum("nchw,nkhw->nck", x, x)), X, N * C * C * P),
    ("attention", Steps(lambda s, x: F.scaled_dot_product_attention(x, x, x)), X, N * C * H * H * W * 2),
    (
        "attention across",
        Steps(lambda s, x: F.scaled_dot_product_attention(x, s.k, s.v), k=X[:, :, :1].expand(N, C, 9, W),
              v=torch.randn(N, C, 9, 3)),
        X,
        N * C * H * 9 * (W + 3),
    ),
    (
        "multi-head attention",
        Steps(lambda s, x: s.mha(x, x, x, need_weights=False)[0]),
        X[:, :, 0],
        N * C * W * 4 * W + N * C * C * W * 2,
    ),
    ("elementwise is no product", nn.Sigmoid(), X, 0),
]  # fmt: skip
PRODUCTS[-2][1].mha = nn.MultiheadAttention(5, 1, batch_first=True)


@pytest.mark.parametrize(("name", "module", "x", "macs"), PRODUCTS, ids=[row[0] for row in PRODUCTS])
@pytest.mark.parametrize("mode", ["eager", "inference", "meta"])
def test_multiply_adds_by_hand(name, module, x, macs, mode):
    if mode == "meta":
        found = count(copy.deepcopy(module).to("meta"), x.to("meta"), kept=False)
    else:
        runs = torch.inference_mode(mode == "inference")(module.forward)
        found = count(Steps(lambda s, x: runs(x)), x, kept=False)
    assert found.macs == macs
    assert not found.unknown


@pytest.mark.parametrize("heads", [1, 3])
def test_the_fused_path_of_multi_head_attention_is_counted_too(heads):
    layer = nn.TransformerEncoderLayer(12, heads, 20, batch_first=True).eval()
    x = torch.randn(2, 7, 12)
    assert count(layer, x).macs == 2 * 7 * (4 * 12 * 12 + 2 * 12 * 20) + 2 * 7 * 7 * 12 * 2
    assert torch.backends.mha.get_fastpath_enabled()


n = X.numel() * FLOAT
BYTES = [  # what is read, what is written, by the last operator
    ("convolution", lambda s, x: F.conv2d(x, s.w, s.b), {"w": torch.randn(12, 8, 3, 3), "b": torch.randn(12)},
     n + (12 * 8 * 9 + 12) * FLOAT, N * 12 * 4 * 3 * FLOAT),
    ("linear", lambda s, x: F.linear(x, s.w, s.b), {"w": torch.randn(7, 5), "b": torch.randn(7)},
     n + 42 * FLOAT, N * C * H * 7 * FLOAT),
    ("matmul", lambda s, x: x @ x.mT, {}, 2 * n, N * C * H * H * FLOAT),
    ("add", lambda s, x: x + s.y, {"y": torch.randn_like(X)}, 2 * n, n),
    ("with itself", lambda s, x: x * x, {}, n, n),
    ("gate", lambda s, x: x * s.gate.sigmoid(), {"gate": torch.randn(N, C, 1, 1)}, n + N * C * FLOAT, n),
    ("expanded", lambda s, x: x * s.gate.expand_as(x), {"gate": torch.randn(N, 1, H, W)}, n + N * P * FLOAT, n),
    ("part", lambda s, x: x[:, :2] + 1, {}, n // 4, n // 4),
    ("windows", lambda s, x: x.unfold(2, 3, 1) * 2, {}, n, N * C * 4 * W * 3 * FLOAT),
    ("in place", lambda s, x: s.y.mul_(x), {"y": torch.randn_like(X)}, 2 * n, n),
    ("in place, alone", lambda s, x: s.y.relu_(), {"y": torch.randn_like(X)}, n, n),
    ("copy into", lambda s, x: s.y.copy_(x), {"y": torch.randn_like(X)}, n, n),
    ("fill", lambda s, x: s.y.zero_(), {"y": torch.randn_like(X)}, 0, n),
    ("out=", lambda s, x: torch.mul(x, x, out=s.y), {"y": torch.randn_like(X)}, n, n),
    ("batch norm", lambda s, x: F.batch_norm(x, s.m, s.v, s.m, s.v),
     {"m": torch.zeros(C), "v": torch.ones(C)}, n + 2 * C * FLOAT, n),
    ("batch norm, training", lambda s, x: F.batch_norm(x, s.m, s.v, s.w, s.b, training=True),
     {"m": torch.zeros(C), "v": torch.ones(C), "w": torch.ones(C), "b": torch.zeros(C)},
     n + 4 * C * FLOAT, n + 4 * C * FLOAT),  # running and batch statistics are written
    ("layer norm", lambda s, x: F.layer_norm(x, (W,), s.w), {"w": torch.ones(W)},
     n + W * FLOAT, n + 2 * N * C * H * FLOAT),
    ("average pooling", lambda s, x: F.avg_pool2d(x, 2), {}, n, N * C * 3 * 2 * FLOAT),
    ("max pooling", lambda s, x: F.max_pool2d(x, 2), {}, n, N * C * 3 * 2 * (FLOAT + 8)),  # and the places
    ("global pooling", lambda s, x: F.adaptive_avg_pool2d(x, 1), {}, n, N * C * FLOAT),
    ("concatenation", lambda s, x: torch.cat([x, s.y], 1), {"y": torch.randn(N, 3, H, W)},
     n + N * 3 * P * FLOAT, n + N * 3 * P * FLOAT),
    ("softmax", lambda s, x: x.softmax(1), {}, n, n),
    ("indexing", lambda s, x: x[:, s.i], {"i": torch.tensor([0, 3, 3])},
     N * 3 * P * FLOAT + 3 * 8, N * 3 * P * FLOAT),
    ("index_select", lambda s, x: x.index_select(1, s.i), {"i": torch.tensor([0, 3])},
     N * 2 * P * FLOAT + 2 * 8, N * 2 * P * FLOAT),
    ("writing at indices", lambda s, x: s.y.index_copy_(1, s.i, x[:, :2]),
     {"y": torch.randn_like(X), "i": torch.tensor([0, 3])}, N * 2 * P * FLOAT + 2 * 8, N * 2 * P * FLOAT),
    ("adding at indices", lambda s, x: s.y.index_add_(1, s.i, x[:, :2]),
     {"y": torch.randn_like(X), "i": torch.tensor([0, 3])}, 2 * N * 2 * P * FLOAT + 2 * 8, N * 2 * P * FLOAT),
    ("padding", lambda s, x: F.pad(x, (1, 1, 1, 1)), {}, n, N * C * (H + 2) * (W + 2) * FLOAT),
    ("bilinear", lambda s, x: F.interpolate(x, scale_factor=2, mode="bilinear"), {}, n, 4 * n),
    ("half", lambda s, x: x.bfloat16(), {}, n, n // 2),
    ("permuted and copied", lambda s, x: x.permute(0, 2, 3, 1).contiguous(), {}, n, n),
]  # fmt: skip


@pytest.mark.parametrize(("name", "run", "needs", "read", "written"), BYTES, ids=[row[0] for row in BYTES])
def test_bytes_by_hand(name, run, needs, read, written):
    last = rows_of(run, **needs)[-1]
    assert (last.bytes_read, last.bytes_written) == (read, written)
    assert last.launches == 1


def test_views_and_allocations_are_free():
    def run(s, x):
        y = x.flatten(1).transpose(0, 1)[1:].unsqueeze(0).expand(3, -1, -1).detach()
        torch.empty_like(x), x.chunk(2, 1), x.unbind(0), x.new_empty(3), x.view(-1).view_as(x), F.dropout(x)
        return y, F.dropout(x, training=False), x.contiguous(), x.to(x.dtype)

    assert [row.operator for row in rows_of(run)] == ["aten.bernoulli_", "aten.div_", "aten.mul"], "dropout's alone"


ARITHMETIC = [  # elementwise operations, reductions, of all operators
    ("relu", lambda s, x: x.relu(), X.numel(), 0),
    ("sum", lambda s, x: x.sum(1), 0, X.numel()),
    ("global pooling", lambda s, x: F.adaptive_avg_pool2d(x, 1), 0, X.numel()),
    ("softmax", lambda s, x: x.softmax(1), 3 * X.numel(), 2 * X.numel()),
    ("pooling", lambda s, x: F.max_pool2d(x, 2), 0, N * C * 3 * 2 * 4),
    ("pooling to 4×3", lambda s, x: F.adaptive_avg_pool2d(x, (4, 3)), 0, N * C * 8 * 7),
    ("bilinear", lambda s, x: F.interpolate(x, scale_factor=2, mode="bilinear"), 4 * X.numel() * 7, 0),
    ("bias", lambda s, x: F.conv2d(x, torch.ones(1, 8, 1, 1), torch.ones(1)), N * P, 0),
]


@pytest.mark.parametrize(("name", "run", "elementwise", "reductions"), ARITHMETIC, ids=[row[0] for row in ARITHMETIC])
def test_arithmetic_beside_the_products_by_hand(name, run, elementwise, reductions):
    total = count(Steps(run), X, kept=False).total
    assert (total.elementwise, total.reductions) == (elementwise, reductions)


Q = 28 * 28
BY_HAND = {  # multiply-adds of one sample with 64 channels on 28×28 (4×14×14 where time is an axis)
    "se": 2 * 64 * 4,
    "cse": 2 * 64 * 32,
    "ese": 64 * 64,
    "sse": 64 * Q,
    "scse": 2 * 64 * 32 + 64 * Q,
    "eca": 64 * 3,
    "ca": 64 * 8 * 56 + 2 * 8 * 64 * 28,
    "cbam": 2 * (2 * 64 * 4) + 7 * 7 * 2 * Q,
    "bam": 2 * 64 * 4 + (64 * 4 + 2 * 9 * 4 * 4 + 4) * Q,
    "sge": 0,
    "gc": 64 * Q + 64 * Q + 2 * 64 * 4,  # the mask, the weighted sum, the transform
    "sk": 2 * 9 * 64 * 2 * Q + 64 * 32 + 2 * 32 * 64,
    "nl": 3 * 64 * 32 * Q + 2 * Q * Q * 32 + 32 * 64 * Q,
    "danet_position": 2 * 64 * 8 * Q + 64 * 64 * Q + Q * Q * (8 + 64),
    "danet_channel": 2 * 64 * 64 * Q,
    "drsn_cs": 64 * 64 + 64,
    "drsn_cw": 2 * 64 * 16,
    "stn": 64 * 8 * 49 * Q + 8 * 10 * 25 * (Q // 4) + 10 * 9 * 32 + 32 * 6,
    "attention_gate": 64 * 32 * 4 * (Q // 4) + 64 * 32 * (Q // 4) + 32 * (Q // 4) + 64 * 64 * Q,
    "iastp": 2 * 49 * 49 * 64,
    "sra": 2 * 64 * 64 * Q + 196 * (4 + 2) * 64 * 64 + 2 * Q * 196 * 64,
    "temporal": (64 * 4 * 3 + 4) * 4,
    "cbam_temporal": 2 * (2 * 64 * 4) + 7 * 7 * 2 * Q + (64 * 4 * 3 + 4) * 4,
    "sa": 0,
}


@pytest.mark.parametrize("name", foveate.list_attention())
def test_multiply_adds_of_every_mechanism_by_hand(name):
    module = foveate.create_attention(name, 64, **({"groups": 8} if name == "sa" else {}))
    x = torch.randn(1, 64, 4, 14, 14) if "temporal" in name else torch.randn(1, 64, 28, 28)
    found = count(module, (x, torch.randn(1, 64, 14, 14)) if name == "attention_gate" else x, kept=False)
    assert found.macs == BY_HAND[name]
    assert not found.unknown
    assert found.total.elementwise + found.total.reductions > 0


def test_the_figures_that_are_often_miscounted():
    assert count(foveate.create_attention("nl", 64), torch.randn(1, 64, 28, 28)).macs == 45_760_512
    import torchvision

    with torch.device("meta"):
        resnet = torchvision.models.resnet50()
        found = count(resnet, torch.empty(1, 3, 224, 224))
    assert found.macs == 4_089_184_256
    assert found.total.parameters == 25_557_032
    assert not found.unknown


def test_agrees_with_torchs_counter_where_that_is_right():
    network = foveate.create_network("resnet8", num_classes=3).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 32, 32))
    assert count(network, torch.randn(2, 3, 32, 32)).macs == counter.get_total_flops() // 2


def test_an_unknown_operator_is_listed_and_its_bytes_are_counted():
    found = count(Steps(lambda s, x: torch.linalg.inv(x[..., :5, :]).relu()), X, kept=False)
    assert found.unknown == {"aten.linalg_inv_ex": 1}
    assert found.total.unknown == 1
    unknown = found.rows[0]
    assert unknown.kind == "unknown"
    assert unknown.bytes_read == N * C * 25 * FLOAT
    assert unknown.bytes_written >= N * C * 25 * FLOAT


@torch.library.custom_op("foveate_tests::twice", mutates_args=())
def twice(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x @ w * 2


def test_an_operator_of_ones_own_says_what_it_computes():
    step = Steps(lambda s, x: twice(x, s.w), w=torch.randn(5, 3))
    assert count(step, X, kept=False).unknown == {"foveate_tests.twice": 1}

    @register_operator("foveate_tests::twice")
    def work(result, x, w):
        return Work("product", x.numel() * w.shape[1], elementwise=result.numel())

    row = count(step, X, kept=False).rows[-1]
    assert row == Row("foveate_tests.twice", "", "product", N * C * H * 5 * 3, N * C * H * 3, 0, n + 15 * FLOAT,
                      N * C * H * 3 * FLOAT, ((N, C, H, W), (5, 3)), ((N, C, H, 3),), "float32")  # fmt: skip
    with pytest.raises(ValueError, match=r"wanted the name of an operator as library::operator, got 'twice'"):
        register_operator("twice")


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        (lambda s, x: x[x > 0], ("aten.index",)),
        (lambda s, x: x * x.sum().item(), ("aten._local_scalar_dense",)),
        (lambda s, x: x.nonzero(), ("aten.nonzero",)),
        (lambda s, x: x[:, s.i], ()),
    ],
)
def test_says_where_values_decide_the_shapes(run, seen):
    assert count(Steps(run, i=torch.tensor([1])), X, kept=False).data_dependent == seen


def test_multiply_adds_on_channels_and_positions_of_zeros_are_their_shares_of_the_map():
    conv = nn.Conv2d(8, 4, 3, padding=1)
    whole = count(conv, X, kept=False).macs
    x = X.abs() + 1
    assert macs_on_zeros(conv, x) == 0
    x[0, :4] = 0  # half of the channels of one of N samples
    assert macs_on_zeros(conv, x) == round(whole / 2 / N)
    x = X.abs() + 1
    x[:, :, :2] = 0  # two rows of H
    x[:, 0, 3] = 0  # part of a channel, which counts for nothing
    assert macs_on_zeros(conv, x) == round(whole * 2 / H)

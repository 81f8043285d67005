"""The residual shrinkage block against its definition, written out again here, and the paper's network size."""

import pytest
import torch
import torch.nn.functional as F
from golden import part

from foveate.networks._same_padding import tensorflow_same
from foveate.networks._shrinkage import ShrinkageBlock
from foveate.official import load

SOURCE = "zhao62/Deep-Residual-Shrinkage-Networks"
CS, CW, DEMO, KERAS = (
    "DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cs",
    "DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cw",
    "DRSN_TFLearn.py:residual_shrinkage_block",
    "DRSN_Keras.py:residual_shrinkage_block",
)


def same_conv(x, weight, bias, stride):
    """A "same" convolution position by position: output i covers inputs from i·stride − before."""
    kernel = weight.shape[2:]
    sizes = [-(-n // stride) for n in x.shape[2:]]
    before = [max((m - 1) * stride + k - n, 0) // 2 for m, n, k in zip(sizes, x.shape[2:], kernel, strict=True)]
    rows = []
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            total = bias.expand(x.shape[0], -1)
            for a in range(kernel[0]):
                for b in range(kernel[1]):
                    p, q = i * stride - before[0] + a, j * stride - before[1] + b
                    if 0 <= p < x.shape[2] and 0 <= q < x.shape[3]:
                        total = total + x[:, :, p, q] @ weight[:, :, a, b].T
            rows.append(total)
    return torch.stack(rows, -1).unflatten(2, sizes)


def written_out(x, p, stride, shared, training, eps):
    def norm(x, name):
        over = [i for i in range(x.dim()) if i != 1]
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
        if training:
            mean, var = x.mean(over), x.var(over, correction=0)
        shape = (1, -1, *(1,) * (x.dim() - 2))
        scale = p[f"{name}.weight"] / (var + eps).sqrt()
        return (x - mean.view(shape)) * scale.view(shape) + p[f"{name}.bias"].view(shape)

    u = same_conv(norm(x, "bn1").clamp(min=0), p["conv1.weight"], p["conv1.bias"], stride)
    u = same_conv(norm(u, "bn2").clamp(min=0), p["conv2.weight"], p["conv2.bias"], 1)
    m = u.abs().mean((2, 3))
    z = norm(m @ p["fc1.weight"].T + p["fc1.bias"], "bn_fc").clamp(min=0) @ p["fc2.weight"].T + p["fc2.bias"]
    tau = z.sigmoid() * (m.mean(1, keepdim=True) if shared else m)
    tau = tau[:, :, None, None]
    shrunk = torch.where(u > tau, u - tau, torch.where(u < -tau, u + tau, 0))
    extra = u.shape[1] - x.shape[1]
    way = x[:, :, ::stride, ::stride]
    zeros = way.new_zeros(way.shape[0], extra, *way.shape[2:])
    return shrunk + torch.cat([zeros[:, : extra // 2], way, zeros[:, extra // 2 :]], 1)


def weights(in_channels, out_channels, kernel, hidden, outputs):
    shapes = {
        "conv1.weight": (out_channels, in_channels, *kernel),
        "conv2.weight": (out_channels, out_channels, *kernel),
        "fc1.weight": (hidden, out_channels),
        "fc2.weight": (outputs, hidden),
    }
    p = {name: torch.randn(shape).double() for name, shape in shapes.items()}
    p |= {name.replace("weight", "bias"): torch.randn(value.shape[0]).double() for name, value in p.items()}
    for name, width in (("bn1", in_channels), ("bn2", out_channels), ("bn_fc", hidden)):
        p |= {f"{name}.{key}": torch.randn(width).double() for key in ("weight", "bias", "running_mean")}
        p[f"{name}.running_var"] = torch.rand(width).double() + 0.5
    return p


MAPS = [(CS, (1, 16)), (CS, (1, 7)), (CW, (1, 10)), (DEMO, (7, 6)), (DEMO, (1, 1)), (DEMO, (2, 8)), (KERAS, (6, 5))]
GROWTHS = [(5, 5), (4, 8), (4, 9), (8, 13)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("downsample", [False, True])
@pytest.mark.parametrize(
    ("cls", "shape", "widths"),
    [(cls, shape, w) for cls, shape in MAPS for w in GROWTHS if cls != KERAS or (w[1] - w[0]) % 2 == 0],
)
def test_every_official_block_equals_its_definition(cls, shape, widths, downsample, training):
    x = torch.randn(3, widths[0], *shape).double()
    hidden = widths[1] // 4 if cls == DEMO else widths[1]
    kernel = (1, 3) if "1D" in cls else (3, 3)
    p = weights(*widths, kernel, hidden, 1 if cls == CS else widths[1])
    ctor = {"in_channels": widths[0], "out_channels": widths[1], "downsample": downsample}
    module = load(SOURCE, cls, ctor, p).train(training)
    eps = 1e-3 if cls == KERAS else 1e-5
    wanted = written_out(x, p, 2 if downsample else 1, cls == CS, training, eps)
    y = module(x)
    torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-10)
    assert (y < 0).any(), "no ReLU comes after the add"


def test_several_blocks_in_one_call_each_stride():
    first, second = weights(4, 6, (3, 3), 1, 6), weights(6, 6, (3, 3), 1, 6)
    state = {**{f"0.{k}": v for k, v in first.items()}, **{f"1.{k}": v for k, v in second.items()}}
    ctor = {"in_channels": 4, "out_channels": 6, "downsample": True}
    module = load(SOURCE, DEMO, {**ctor, "nb_blocks": 2}, state)
    x = torch.randn(2, 4, 9, 8).double()
    alone = load(SOURCE, DEMO, ctor, part(state, "0."))
    other = load(SOURCE, DEMO, {**ctor, "in_channels": 6}, part(state, "1."))
    assert torch.equal(module(x), other(alone(x)))
    assert module(x).shape == (2, 6, 3, 2)


def test_what_the_keras_file_cannot_do_is_refused():
    for ctor, message in (
        ({"in_channels": 4, "out_channels": 7}, "growth must be even; got 4→7"),
        ({"in_channels": 4, "out_channels": 8, "nb_blocks": 2}, "out_channels must be 4; got 8"),
        ({"in_channels": 4, "out_channels": 4, "downsample": True, "downsample_strides": 3}, "strides by 2"),
    ):
        with pytest.raises(ValueError, match=message):
            load(SOURCE, KERAS, ctor, {})
    with pytest.raises(ValueError, match="'out_channels' or 'out_channels//r'; got 'in_channels'"):
        load(SOURCE, DEMO, {"in_channels": 4, "out_channels": 4, "gate_hidden": "in_channels"}, {})


def test_same_padding_is_one_sided_on_even_sides_and_even_on_odd_ones():
    assert tensorflow_same(torch.ones(1, 1, 6), [3], 2).tolist() == [[[1] * 6 + [0]]]
    assert tensorflow_same(torch.ones(1, 1, 7), [3], 2).tolist() == [[[0] + [1] * 7 + [0]]]
    assert tensorflow_same(torch.ones(1, 1, 6), [3], 1).tolist() == [[[0] + [1] * 6 + [0]]]
    assert tensorflow_same(torch.ones(1, 1, 3), [1], 2).tolist() == [[[1] * 3]]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shrinkage", ["drsn_cs", "drsn_cw", None])
def test_a_signal_is_an_image_of_one_row(shrinkage, stride):
    signal = ShrinkageBlock(4, 7, spatial_dims=1, stride=stride, shrinkage=shrinkage)
    image = ShrinkageBlock(4, 7, kernel_size=(1, 3), stride=stride, shrinkage=shrinkage)
    image.load_state_dict({k: v.reshape(image.state_dict()[k].shape) for k, v in signal.state_dict().items()})
    x = torch.randn(3, 4, 10)
    torch.testing.assert_close(image(x[:, :, None])[:, :, 0], signal(x))


def test_volumes_and_export():
    block = ShrinkageBlock(2, 5, spatial_dims=3, stride=2).eval()
    x = torch.randn(2, 2, 5, 4, 3)
    assert block(x).shape == (2, 5, 3, 2, 2)
    torch.testing.assert_close(torch.export.export(block, (x,)).module()(x), block(x))
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(x), block(x))


@pytest.mark.parametrize(("shrinkage", "parameters"), [("drsn_cs", 10_220), ("drsn_cw", 11_552), (None, 8_416)])
def test_twelve_blocks_make_the_papers_network(shrinkage, parameters):
    stages, channels = [], 4
    for width in (4, 8, 16):
        for stride in (2, 1, 1, 1):
            stages.append(ShrinkageBlock(channels, width, spatial_dims=1, stride=stride, shrinkage=shrinkage))
            channels = width
    network = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3, 2), *stages, torch.nn.BatchNorm1d(16))
    x = torch.randn(2, 1, 2048)
    assert network(x).shape == (2, 16, 128)
    classifier = torch.nn.Linear(16, 8)
    assert sum(p.numel() for p in (*network.parameters(), *classifier.parameters())) == parameters


def test_impossible_blocks_are_refused():
    for options, message in (
        ({"width": 3}, "width must be at least 4; got 3"),
        ({"width": 4, "shrinkage": "se"}, "'drsn_cw', 'drsn_cs' or None; got 'se'"),
        ({"width": 4, "kernel_size": (3, 3, 3)}, "kernel_size must have 2 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            ShrinkageBlock(4, **options)


def test_the_even_side_is_not_the_symmetric_one():
    block = ShrinkageBlock(2, 2, spatial_dims=1, stride=2, shrinkage=None).eval()
    x = torch.randn(1, 2, 8)
    symmetric = F.conv1d(torch.relu(block.bn1(x)), block.conv1.weight, block.conv1.bias, 2, 1)
    given = block.conv1(tensorflow_same(torch.relu(block.bn1(x)), (3,), 2))
    assert not torch.allclose(symmetric, given)

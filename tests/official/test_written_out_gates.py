"""SE, CBAM, BAM, SK, ECA, SGE, SA, CA and scSE in configurations that no golden file has, against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from written_out import compare, means, relu, sigmoid, spread

MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
CADENE, JONGCHAN, INSIGHT = "Cadene/pretrained-models.pytorch", "Jongchan/attention-module", "implus/PytorchInsight"


def se(w, x, r, at=""):
    hidden = relu(w.conv(f"{at}fc1", means(x)[..., None, None], x.shape[1] // r, bias=True))
    return x * sigmoid(w.conv(f"{at}fc2", hidden, x.shape[1], bias=True))


def bottleneck(w, x, widths, stride, down, gate, groups=1, first=False):
    """widths of the three convolutions; the stride on the first or else on the second."""
    one, two = (stride, 1) if first else (1, stride)
    y = relu(w.norm("bn1", w.conv("conv1", x, widths[0], 1, one)))
    y = relu(w.norm("bn2", w.conv("conv2", y, widths[1], 3, two, 1, 1, groups)))
    y = gate(w.norm("bn3", w.conv("conv3", y, widths[2])))
    way = w.norm("downsample.1", w.conv("downsample.0", x, widths[2], down, stride, down // 2)) if down else x
    return relu(y + way)


@MODES
@pytest.mark.parametrize(("channels", "r", "shape"), [(7, 3, (1, 1)), (5, 5, (2, 11)), (33, 4, (3, 1))])
def test_se(channels, r, shape, training):
    ctor = {"channels": channels, "reduction": r}
    compare(CADENE, "SEModule", ctor, lambda w, x: se(w, x, r), (1, channels, *shape), training=training)


@MODES
@pytest.mark.parametrize(
    ("cls", "widths", "more", "down"),
    [
        ("SEResNetBottleneck", (8, 8, 32), {}, 1),
        ("SEResNeXtBottleneck", (6, 6, 32), {"base_width": 24}, 1),
        ("SEBottleneck", (16, 32, 32), {}, 1),
        ("SEBottleneck", (16, 32, 32), {"downsample_kernel_size": 3}, 3),
        ("SEResNeXtBottleneck", (6, 6, 32), {"base_width": 24, "stride": 1, "downsample": False}, 0),
    ],
)
def test_cadene_blocks(cls, widths, more, down, training):
    groups, channels = 2, 3 if down else 32
    ctor = {
        "inplanes": channels,
        "planes": 8,
        "groups": groups,
        "reduction": 5,
        "stride": 2,
        "downsample": True,
        **more,
    }
    stride, first = ctor["stride"], cls == "SEResNetBottleneck"

    def formula(w, x):
        return bottleneck(w, x, widths, stride, down, lambda y: se(w, y, 5, "se_module."), groups, first)

    compare(CADENE, cls, ctor, formula, (2, channels, 9, 6), training=training)


POOLED = {
    "avg": lambda x: x.mean(2),
    "max": lambda x: x.max(2).values,
    "lp": lambda x: x.square().sum(2).sqrt(),
    "lse": lambda x: x.exp().sum(2).log(),
}


def cbam(w, x, r, pools, spatial):
    logits = 0
    for pool in pools:
        hidden = relu(w.linear("ChannelGate.mlp.1", POOLED[pool](x.flatten(2)), x.shape[1] // r))
        logits = logits + w.linear("ChannelGate.mlp.3", hidden, x.shape[1])
    x = x * spread(sigmoid(logits), x)
    if not spatial:
        return x
    pooled = torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1)
    return x * sigmoid(w.norm("SpatialGate.spatial.bn", w.conv("SpatialGate.spatial.conv", pooled, 1, 7, 1, 3), 0.01))


@MODES
@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("pools", [["max"], ["avg", "max"], ["lse", "avg"], ["lp", "lse", "max", "avg"]], ids=str)
def test_cbam(pools, spatial, training):
    ctor = {"gate_channels": 7, "reduction_ratio": 3, "pool_types": pools, "no_spatial": not spatial}
    compare(JONGCHAN, "CBAM", ctor, lambda w, x: cbam(w, x, 3, pools, spatial), (1, 7, 5, 9), training=training)


@MODES
def test_cbam_gives_the_gradient_of_a_tie_to_the_first(training):
    ctor = {"gate_channels": 2, "reduction_ratio": 1}

    def formula(w, x):
        return cbam(w, x, 1, ("avg", "max"), True)

    compare(JONGCHAN, "CBAM", ctor, formula, (3, 2, 9, 9), training=training, ties=True)


@MODES
@pytest.mark.parametrize(("r", "layers", "dilated", "dilation"), [(2, 3, 0, 1), (4, 2, 1, 2), (16, 1, 3, 3)])
def test_bam_branches(r, layers, dilated, dilation, training):
    def channel(w, x):
        y = means(x)
        for i in range(layers):
            y = relu(w.norm(f"gate_c.gate_c_bn_{i + 1}", w.linear(f"gate_c.gate_c_fc_{i}", y, x.shape[1] // r)))
        return spread(w.linear("gate_c.gate_c_fc_final", y, x.shape[1]), x).expand_as(x)

    def position(w, x):
        at, width = "gate_s.gate_s_", x.shape[1] // r
        y = relu(w.norm(f"{at}bn_reduce0", w.conv(f"{at}conv_reduce0", x, width, bias=True)))
        for i in range(dilated):
            y = w.conv(f"{at}conv_di_{i}", y, width, 3, 1, dilation, dilation, bias=True)
            y = relu(w.norm(f"{at}bn_di_{i}", y))
        return w.conv(f"{at}conv_final", y, 1, bias=True).expand_as(x)

    ctor, shape = {"gate_channel": 17, "reduction_ratio": r}, (3, 17, 5, 5)
    compare(JONGCHAN, "bam.ChannelGate", {**ctor, "num_layers": layers}, channel, shape, training=training)
    ctor |= {"dilation_conv_num": dilated, "dilation_val": dilation}
    compare(JONGCHAN, "bam.SpatialGate", ctor, position, shape, training=training)


def selective(w, x, groups, branches, width, stride):
    seen = []
    for m in range(branches):
        name = f"3x3g32d{m + 1}" if m else "3x3g32"
        y = w.conv(name, x, x.shape[1], 3, stride, m + 1, m + 1, groups)
        seen.append(relu(w.norm(f"{name}_bn", y)))
    hidden = relu(w.norm("B_fc1_bn", w.conv("B_fc1", means(sum(seen))[..., None, None], width)))
    chosen = w.conv("B_fc2", hidden, branches * x.shape[1]).reshape(-1, branches, x.shape[1]).softmax(1)
    return sum(spread(chosen[:, m], y) * y for m, y in enumerate(seen))


@MODES
@pytest.mark.parametrize(
    ("groups", "branches", "stride", "sizes"), [(2, 2, 2, (7, 5)), (4, 3, 1, (6, 6)), (1, 3, 2, (1, 9))]
)
def test_selective_kernels(groups, branches, stride, sizes, training):
    ctor = {"channels": 12, "groups": groups, "branches": branches, "r": 4, "L": 5, "stride": stride}
    cls = "models/sknet101.prototxt, SK convolution of block conv4_2"
    args = (groups, branches, 5, stride)
    compare("implus/SKNet", cls, ctor, lambda w, x: selective(w, x, *args), (3, 12, *sizes), training=training)

    def unit(w, x):
        y = relu(w.norm("1x1_reduce_bn", w.conv("1x1_reduce", x, 12)))
        y = w.norm("1x1_increase_bn", w.conv("1x1_increase", selective(w, y, *args), 10))
        return relu(y + w.norm("1x1_proj_bn", w.conv("1x1_proj", x, 10, 1, stride)))

    more = {"in_channels": 6, "mid": 12, "out": 10, "d": 5, "projection": True}
    ctor = {**{k: v for k, v in ctor.items() if k != "channels"}, **more}
    compare("implus/SKNet", "models/sknet50.prototxt, block conv3_1", ctor, unit, (3, 6, *sizes), training=training)


def eca(w, x, size, shared, at=""):
    rows = w(f"{at}conv.weight", 1 if shared else x.shape[1], 1, size)
    around = F.pad(means(x), (size // 2, size // 2))
    return x * spread(sigmoid(sum(rows[:, 0, j] * around[:, j : j + x.shape[1]] for j in range(size))), x)


@MODES
@pytest.mark.parametrize(("channels", "size"), [(1, 3), (5, 9), (16, 1)])
def test_eca_in_its_three_files(channels, size, training):
    ctor, shape = {"channel": channels, "k_size": size}, (1, channels, 2, 11)
    for name, shared in (("eca_module", True), ("eca_ns", False)):
        cls = f"{name}.eca_layer"
        compare("BangguWu/ECANet", cls, ctor, lambda w, x, s=shared: eca(w, x, size, s), shape, training=training)
    for inp, oup, stride, expansion in ((6, 6, 1, 3), (6, 9, 2, 1), (6, 6, 1, 1)):

        def formula(w, x, inp=inp, oup=oup, stride=stride, expansion=expansion):
            n, y, wide = int(expansion != 1), x, inp * expansion
            if n:
                y = F.relu6(w.norm("conv.0.1", w.conv("conv.0.0", y, wide)))
            y = F.relu6(w.norm(f"conv.{n}.1", w.conv(f"conv.{n}.0", y, wide, 3, stride, 1, 1, wide)))
            y = eca(w, w.norm(f"conv.{n + 2}", w.conv(f"conv.{n + 1}", y, oup)), size, True, f"conv.{n + 3}.")
            return x + y if stride == 1 and inp == oup else y

        ctor = {"inp": inp, "oup": oup, "stride": stride, "expand_ratio": expansion, "k_size": size}
        compare("BangguWu/ECANet", "eca_mobilenetv2.InvertedResidual", ctor, formula, (2, inp, 5, 4), training=training)


@pytest.mark.parametrize(("groups", "each", "sizes"), [(1, 4, (3, 1)), (4, 2, (5, 7)), (8, 6, (2, 11))])
def test_group_enhance_and_shuffle(groups, each, sizes):
    def sge(w, x):
        y = x.reshape(len(x), groups, -1, sizes[0] * sizes[1])
        t = (y * y.mean(-1, keepdim=True)).sum(2)
        t = t - t.mean(-1, keepdim=True)
        t = t / (t.std(-1, keepdim=True) + 1e-5)
        weight, bias = (w(name, 1, groups, 1, 1).reshape(1, groups, 1) for name in ("weight", "bias"))
        return (y * sigmoid(weight * t + bias)[:, :, None]).reshape(x.shape)

    def sa(w, x):
        n, out = each // 2, []
        own = {name: w(name, 1, n, 1, 1) for name in ("cweight", "cbias", "sweight", "sbias")}
        scale, shift = (w(f"gn.{name}", n).reshape(1, n, 1, 1) for name in ("weight", "bias"))
        for part in x.split(each, 1):
            u, v = part.split(n, 1)
            var, mean = torch.var_mean(v, (2, 3), keepdim=True, correction=0)
            v_normed = (v - mean) / (var + 1e-5).sqrt() * scale + shift
            out.append(u * sigmoid(own["cweight"] * u.mean((2, 3), keepdim=True) + own["cbias"]))
            out.append(v * sigmoid(own["sweight"] * v_normed + own["sbias"]))
        half = groups * n
        return torch.cat(out, 1)[:, [i // 2 + half * (i % 2) for i in range(2 * half)]]

    channels = groups * each
    ctor, shape = {"groups": groups, "channels": channels}, (1, channels, *sizes)
    compare(INSIGHT, "resnet_sge.SpatialGroupEnhance", ctor, sge, shape)
    compare("wofmanaf/SA-Net", "sa_layer", {"channel": channels, "groups": groups}, sa, shape)


@MODES
@pytest.mark.parametrize(("channels", "r", "sizes"), [(3, 1, (1, 1)), (40, 4, (3, 8)), (33, 32, (9, 1))])
def test_coordinate_attention(channels, r, sizes, training):
    def ca(w, x, names):
        y = torch.cat([x.mean(3), x.mean(2)], 2)[..., None]
        y = w.norm("bn1", w.conv("conv1", y, max(8, channels // r), bias=True))
        y = y * F.relu6(y + 3) / 6
        high, wide = y.split([x.shape[2], x.shape[3]], 2)
        along = w.conv(names[1], wide.mT, channels, bias=True)
        return x * sigmoid(along) * sigmoid(w.conv(names[0], high, channels, bias=True))

    for cls, third, names in (
        ("coordatt", "reduction", ("conv_h", "conv_w")),
        ("mbv2_ca", "groups", ("conv2", "conv3")),
    ):
        ctor = {"inp": channels, "oup": channels, third: r}
        shape = (1, channels, *sizes)
        compare(
            "houqb/CoordAttention", f"{cls}.CoordAtt", ctor, lambda w, x, n=names: ca(w, x, n), shape, training=training
        )


@pytest.mark.parametrize(("dims", "r"), [(2, 1), (2, 3), (3, 1), (3, 3)])
def test_concurrent_squeezes(dims, r):
    def channel(w, x, at=""):
        hidden = relu(w.linear(f"{at}fc1", means(x), 7 // r))
        return x * spread(sigmoid(w.linear(f"{at}fc2", hidden, 7)), x)

    def both(w, x):
        position = x * sigmoid(w.conv("sSE.conv", x, 1, bias=True))
        return torch.maximum(channel(w, x, "cSE."), position)

    source, suffix, shape = "ai-med/squeeze_and_excitation", "3D" * (dims == 3), (2, 7, *(4, 3, 5)[:dims])
    ctor = {"num_channels": 7, "reduction_ratio": r}
    compare(source, f"ChannelSELayer{suffix}", ctor, channel, shape)
    compare(source, f"ChannelSpatialSELayer{suffix}", ctor, both, shape)

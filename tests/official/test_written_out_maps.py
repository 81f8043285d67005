"""GC, non-local, DANet, DRSN, STN and attention gates in configurations that no golden file has, against formulas."""

import pytest
import torch
import torch.nn.functional as F
from written_out import DOUBLE, compare, means, relu, sigmoid, spread

from foveate.attention.nl import FORMS

MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
WINDOW = {1: (2,), 2: (2, 2), 3: (1, 2, 2)}
OKTAY = "ozan-oktay/Attention-Gated-Networks"


@pytest.mark.parametrize("fusion", [["channel_add"], ["channel_mul"], ["channel_mul", "channel_add"]], ids=len)
@pytest.mark.parametrize("pooling", ["att", "avg"])
@pytest.mark.parametrize(("channels", "ratio", "sizes"), [(17, 0.3, (1, 1)), (12, 1.0, (2, 9)), (9, 1 / 8, (5, 3))])
def test_global_context(channels, ratio, sizes, pooling, fusion):
    def formula(w, x):
        context = means(x)
        if pooling == "att":
            where = w.conv("conv_mask", x, 1, bias=True).flatten(2).softmax(2)
            context = (x.flatten(2) * where).sum(2)

        def transform(at):
            width = int(channels * ratio)
            y = w.conv(f"{at}.0", context[..., None, None], width, bias=True)
            var, mean = torch.var_mean(y, 1, keepdim=True, correction=0)
            y = (y - mean) / (var + 1e-5).sqrt() * w(f"{at}.1.weight", width, 1, 1) + w(f"{at}.1.bias", width, 1, 1)
            return w.conv(f"{at}.3", relu(y), channels, bias=True)

        y = x * sigmoid(transform("channel_mul_conv")) if "channel_mul" in fusion else x
        return y + transform("channel_add_conv") if "channel_add" in fusion else y

    ctor = {"inplanes": channels, "ratio": ratio, "pooling_type": pooling, "fusion_types": fusion}
    compare("xvjiarui/GCNet", "mmdet.ops.gcb.ContextBlock", ctor, formula, (2, channels, *sizes))


def non_local(w, x, form, width, keys, window=None, pool_first=False, scaled=False, normed=True, biased=True):
    """keys: official names of theta, phi, g, the join, the last convolution and its norm."""
    channels = x.shape[1]

    def pooled(y, now):
        return POOL[x.dim() - 2](y, window) if window and now else y

    source = pooled(x, pool_first)
    values = pooled(w.conv(keys["g"], source, width, bias=True), not pool_first).flatten(2)
    if form == "gaussian":
        queries, sought = x.flatten(2), pooled(x, True).flatten(2)
    else:
        queries = w.conv(keys["theta"], x, width, bias=True).flatten(2)
        sought = pooled(w.conv(keys["phi"], source, width, bias=True), not pool_first).flatten(2)
    count = sought.shape[2]
    if form == "concatenation":
        first, second = w(keys["join"], 1, 2 * width, 1, 1).flatten().chunk(2)
        map_ = relu((queries.mT @ first)[:, :, None] + (sought.mT @ second)[:, None]) / count
    else:
        map_ = queries.mT @ sought
        map_ = map_ / count if form == "dot_product" else (map_ * (width**-0.5 if scaled else 1)).softmax(2)
    y = w.conv(keys["out"], (map_ @ values.mT).mT.reshape(len(x), width, *x.shape[2:]), channels, bias=biased)
    return x + (w.norm(keys["norm"], y) if normed else y)


@MODES
@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_non_local_of_alexhex7_and_mmcv(form, dims, sub_sample, training):
    shape, window = (2, 7, *(3, 5, 4)[:dims]), WINDOW[dims] if sub_sample else None
    inner = ".0" * sub_sample
    for norm, width in ((True, None), (False, 5)):
        keys = {"theta": "theta", "phi": f"phi{inner}", "g": f"g{inner}", "join": "concat_project.0.weight"}
        keys |= {"out": "W.0" if norm else "W", "norm": "W.1"}
        ctor = {"in_channels": 7, "inter_channels": width, "sub_sample": sub_sample, "bn_layer": norm}

        def ours(w, x, width=width, keys=keys, norm=norm):
            return non_local(w, x, form, width or 3, keys, window, normed=norm)

        cls = f"non_local_{form}.NONLocalBlock{dims}D"
        compare("AlexHex7/Non-local_pytorch", cls, ctor, ours, shape, training=training)
    for norm, reduction, use_scale in ((None, 16, True), ({"type": "BN"}, 3, True), (None, 2, False)):
        keys = {"theta": "theta.conv", "phi": f"phi{inner}.conv", "g": f"g{inner}.conv", "out": "conv_out.conv"}
        keys |= {"join": "concat_project.conv.weight", "norm": "conv_out.bn"}
        ctor = {"in_channels": 7, "reduction": reduction, "use_scale": use_scale, "norm_cfg": norm, "mode": form}
        options = {"scaled": use_scale and form == "embedded_gaussian", "normed": norm is not None}

        def theirs(w, x, reduction=reduction, keys=keys, options=options):
            return non_local(w, x, form, max(7 // reduction, 1), keys, window, biased=not options["normed"], **options)

        ctor["sub_sample"] = sub_sample
        compare("open-mmlab/mmcv", f"NonLocal{dims}d", ctor, theirs, shape, training=training)


@MODES
@pytest.mark.parametrize("pool", [None, [1, 2, 2], [2, 1, 2], [1, 1, 1]], ids=str)
@pytest.mark.parametrize(("name", "form"), [("softmax", "embedded_gaussian"), ("dot_product", "dot_product")])
def test_non_local_of_slowfast(name, form, pool, training):
    keys = {name: f"conv_{name}" for name in ("theta", "phi", "g", "out")} | {"norm": "bn"}
    ctor = {"dim": 5, "dim_inner": 3, "pool_size": pool, "instantiation": name}

    def formula(w, x):
        return non_local(w, x, form, 3, keys, pool, pool_first=True, scaled=True)

    compare("facebookresearch/SlowFast", "Nonlocal", ctor, formula, (1, 5, 3, 4, 5), training=training)


@pytest.mark.parametrize("channels", [8, 20])
def test_dual_attention(channels):
    def position(w, x):
        narrow = channels // 8
        q, k = (w.conv(f"{name}_conv", x, narrow, bias=True).flatten(2) for name in ("query", "key"))
        v = w.conv("value_conv", x, channels, bias=True).flatten(2)
        return w("gamma", 1) * (v @ (q.mT @ k).softmax(2).mT).reshape(x.shape) + x

    def channel(w, x):
        flat = x.flatten(2)
        energy = flat @ flat.mT
        weights = (energy.amax(2, keepdim=True) - energy).softmax(2)
        return w("gamma", 1) * (weights @ flat).reshape(x.shape) + x

    for cls, formula in (("PAM_Module", position), ("CAM_Module", channel)):
        compare("junfu1115/DANet", cls, {"in_dim": channels}, formula, (1, channels, 3, 7))


@MODES
@pytest.mark.parametrize(
    ("cls", "kernel", "growth", "stride", "sizes", "hidden"),
    [
        ("DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cs", (1, 3), 3, 2, (1, 9), 1),
        ("DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cs", (1, 5), 4, 3, (1, 8), 2),
        ("DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cw", (1, 3), 1, 2, (1, 8), 1),
        ("DRSN_TFLearn.py:residual_shrinkage_block", (3, 3), 3, 2, (7, 4), 4),
        ("DRSN_TFLearn.py:residual_shrinkage_block", (3, 3), 0, 1, (3, 9), 4),
    ],
)
def test_shrinkage_blocks(cls, kernel, growth, stride, sizes, hidden, training):
    def same(x, step):
        pad = []
        for side, size in zip(x.shape[:1:-1], kernel[::-1], strict=True):
            total = max((-(-side // step) - 1) * step + size - side, 0)
            pad += [total // 2, total - total // 2]
        return F.pad(x, pad)

    width, shared = 5 + growth, cls.endswith("_cs")

    def formula(w, x):
        y = relu(w.norm("bn1", x, biased=True))
        y = w.conv("conv1", same(y, stride), width, kernel, stride, bias=True)
        y = w.conv("conv2", same(relu(w.norm("bn2", y, biased=True)), 1), width, kernel, bias=True)
        m = means(y.abs())
        z = relu(w.norm("bn_fc", w.linear("fc1", m, width // hidden), biased=True))
        z = sigmoid(w.linear("fc2", z, 1 if shared else width))
        tau = spread(z * (m.mean(1, keepdim=True) if shared else m), y)
        way = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, growth // 2, growth - growth // 2))
        return y.sign() * relu(y.abs() - tau) + way

    ctor = {"in_channels": 5, "out_channels": width, "kernel": list(kernel), "nb_blocks": 1, "downsample": stride > 1}
    ctor |= {"downsample_strides": stride, "gate_hidden": "out_channels" + (f"//{hidden}" if hidden > 1 else "")}
    compare("zhao62/Deep-Residual-Shrinkage-Networks", cls, ctor, formula, (2, 5, *sizes), training=training)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("out", [None, [3, 8], (2, 3, 6, 2)], ids=str)
def test_samplers(align, padding, out):
    def formula(_, x, theta):
        (h, w), (high, wide) = x.shape[2:], (out or x.shape)[-2:]

        def sides(n):
            return torch.linspace(-1, 1, n, dtype=DOUBLE) if align else (2 * torch.arange(n, dtype=DOUBLE) + 1) / n - 1

        ys, xs = torch.meshgrid(sides(high), sides(wide), indexing="ij")
        source = torch.einsum("nij,hwj->nihw", theta, torch.stack([xs, ys, torch.ones_like(xs)], -1))

        def pixels(c, n):
            p = (c + 1) * (n - 1) / 2 if align else ((c + 1) * n - 1) / 2
            return p.clamp(0, n - 1) if padding == "border" else p

        px, py = pixels(source[:, 0], w), pixels(source[:, 1], h)
        y, one = 0, torch.arange(len(x))[:, None, None]
        for dx in (0, 1):
            for dy in (0, 1):
                ix, iy = px.floor() + dx, py.floor() + dy
                weight = (1 - (px - ix).abs()) * (1 - (py - iy).abs())
                weight = weight * ((ix >= 0) & (ix < w) & (iy >= 0) & (iy < h))
                value = x[one, :, iy.clamp(0, h - 1).long(), ix.clamp(0, w - 1).long()]
                y = y + (value * weight[..., None]).permute(0, 3, 1, 2)
        return y

    ctor = {"align_corners": align, "padding_mode": padding, "out_size": out}
    compare("pytorch/tutorials", "affine_grid+grid_sample", ctor, formula, (2, 3, 5, 7), (2, 2, 3))


NORMALISED = {
    "softmax": lambda q: q.softmax(1),
    "sigmoid": sigmoid,
    "mean": lambda q: q / q.sum(1, keepdim=True),
    "flow": lambda q: (q - q.amin(1, keepdim=True)) / (q - q.amin(1, keepdim=True)).sum(1, keepdim=True),
    "normalise": lambda q: (q - q.amin(1, keepdim=True)) / (q.amax(1, keepdim=True) - q.amin(1, keepdim=True)),
}
GRID_MODES = ["concatenation", "concatenation_debug", "concatenation_residual"]
TORR_MODES = [f"concatenation_{name}" for name in ("sigmoid", "softmax", "mean", "mean_flow", "range_normalise")]


@MODES
@pytest.mark.parametrize("mode", [*GRID_MODES, *TORR_MODES])
@pytest.mark.parametrize(("factor", "dims"), [((2, 1, 3), 3), (2, 2), ((1, 2), 2)], ids=str)
def test_grid_gates(mode, factor, dims, training):
    window = factor if isinstance(factor, tuple) else (factor,) * dims
    torr = mode in TORR_MODES
    kind = {"concatenation": "sigmoid", "concatenation_debug": "sigmoid", "concatenation_residual": "softmax"}.get(mode)

    def resized(y, like):
        return F.interpolate(y, size=like.shape[2:], mode="trilinear" if dims == 3 else "bilinear")

    def formula(w, x, g):
        theta = w.conv("theta", x, 2, window, window)
        phi = w.conv("phi", g, 2, window, window) if torr else w.conv("phi", g, 2, bias=True)
        joint = theta + resized(phi, theta)
        q = w.conv("psi", F.softplus(joint) if mode == "concatenation_debug" else relu(joint), 1, bias=True)
        alpha = resized(NORMALISED[kind or mode.split("_")[-1]](q.flatten(1)).reshape(q.shape), x)
        return w.norm("W.1", w.conv("W.0", x * alpha, 5, bias=True)), alpha

    ctor = {"in_channels": 5, "gating_channels": 3, "inter_channels": None, "mode": mode}
    ctor["sub_sample_factor"] = list(factor) if isinstance(factor, tuple) else factor
    shapes = (1, 5, *(6, 5, 7)[:dims]), (1, 3, *(3, 2, 3)[:dims])
    cls = f"GridAttentionBlock{dims}D" + "_TORR" * torr
    compare(OKTAY, cls, ctor, formula, *shapes, training=training, names=("x", "g"))

"""The tensors of the released residual networks, written out: names and shapes, independently of our maps."""

from collections.abc import Callable, Iterator

Shapes = dict[str, tuple[int, ...]]
COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def linear(name: str, outputs: int, inputs: int, *ones: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, *ones)} | ({f"{name}.bias": (outputs,)} if bias else {})


def se(name: str, first: str, second: str, *ones: int, bias: bool = True) -> Callable[[int], Shapes]:
    def made(c: int) -> Shapes:
        return linear(f"{name}.{first}", c // 16, c, *ones, bias=bias) | linear(
            f"{name}.{second}", c, c // 16, *ones, bias=bias
        )

    return made


def cbam(c: int) -> Shapes:
    gate = linear("cbam.ChannelGate.mlp.1", c // 16, c) | linear("cbam.ChannelGate.mlp.3", c, c // 16)
    return gate | {"cbam.SpatialGate.spatial.conv.weight": (1, 2, 7, 7)} | norm("cbam.SpatialGate.spatial.bn", 1)


def bam(name: str, c: int) -> Shapes:
    h, channel, spatial = c // 16, f"{name}.channel_att.gate_c.gate_c_", f"{name}.spatial_att.gate_s.gate_s_"
    found = linear(f"{channel}fc_0", h, c) | norm(f"{channel}bn_1", h) | linear(f"{channel}fc_final", c, h)
    found |= linear(f"{spatial}conv_reduce0", h, c, 1, 1) | norm(f"{spatial}bn_reduce0", h)
    for i in (0, 1):
        found |= linear(f"{spatial}conv_di_{i}", h, h, 3, 3) | norm(f"{spatial}bn_di_{i}", h)
    return found | linear(f"{spatial}conv_final", 1, h, 1, 1)


def sa(c: int) -> Shapes:
    n = c // 128
    four = {f"sa.{part}": (1, n, 1, 1) for part in ("cweight", "cbias", "sweight", "sbias")}
    return four | {"sa.gn.weight": (n,), "sa.gn.bias": (n,)}


def context(ratio: float) -> Callable[[int], Shapes]:
    def made(c: int) -> Shapes:
        h, add = int(c * ratio), "context_block.channel_add_conv"
        found = linear("context_block.conv_mask", 1, c, 1, 1) | linear(f"{add}.0", h, c, 1, 1)
        return found | {f"{add}.1.{part}": (h, 1, 1) for part in ("weight", "bias")} | linear(f"{add}.3", c, h, 1, 1)

    return made


def light_kernel(w: int) -> Shapes:
    """What PytorchInsight's SK bottleneck has beside conv2 and bn2."""
    found = {"conv2g.weight": (w, w // 32, 3, 3), "conv_fc1.weight": (w // 16, w, 1, 1)}
    return found | {"conv_fc2.weight": (2 * w, w // 16, 1, 1)} | norm("bn2g", w) | norm("bn_fc1", w // 16)


def stages(depth: int) -> Iterator[tuple[int, int, int, int, bool]]:
    """(stage from 1, block from 0, width, channels before, whether it projects)."""
    expansion, channels = 4 if depth >= 50 else 1, 64
    for stage, count in enumerate(COUNTS[depth], 1):
        width = 32 * 2**stage
        for index in range(count):
            yield stage, index, width, channels, channels != width * expansion or (stage > 1 and not index)
            channels = width * expansion


def network(
    depth: int,
    *,
    stem: int = 7,
    inside: Callable[[int], Shapes] | None = None,
    kernel: Callable[[int], Shapes] | None = None,
    first_stage: int = 1,
    between: Callable[[str, int], Shapes] | None = None,
    classes: int | None = 1000,
    layer0: str = "",
    head: str = "fc",
    groups: int = 1,
    base: int = 64,
) -> Shapes:
    """Names as torch's ResNet has them; `inside`: what attention adds to a block that ends with so many channels."""
    found = {f"{layer0}conv1.weight": (64, 3, stem, stem)} | norm(f"{layer0}bn1", 64)
    last = 0
    for stage, index, width, channels, projects in stages(depth):
        out, inner = (4 * width, int(width * base / 64) * groups) if depth >= 50 else (width, width)
        block: Shapes = {}
        if depth >= 50:
            block |= {"conv1.weight": (inner, channels, 1, 1), "conv2.weight": (inner, inner // groups, 3, 3)}
            block |= {"conv3.weight": (out, inner, 1, 1)} | norm("bn1", inner) | norm("bn2", inner) | norm("bn3", out)
        else:
            block |= {"conv1.weight": (width, channels, 3, 3), "conv2.weight": (width, width, 3, 3)}
            block |= norm("bn1", width) | norm("bn2", width)
        if projects:
            block |= {"downsample.0.weight": (out, channels, 1, 1)} | norm("downsample.1", out)
        if inside is not None and stage >= first_stage:
            block |= inside(out)
        if kernel is not None:
            block |= kernel(inner)
        found |= {f"layer{stage}.{index}.{key}": shape for key, shape in block.items()}
        if between is not None and stage < 4 and index + 1 == COUNTS[depth][stage - 1]:
            found |= between(f"bam{stage}", out)
        last = out
    return found | (linear(head, classes, last) if classes else {})


def caffe(depth: int, *, sk: bool = False, least: dict[int, int] | None = None, groups: int = 1) -> Shapes:
    """Caffe's layer names with _ for /, each batch norm with its scale as one."""
    found = {"conv1_7x7_s2.weight": (64, 3, 7, 7)} | norm("conv1_7x7_s2_bn", 64)
    for stage, index, width, channels, projects in stages(depth):
        name, out, inner = f"conv{stage + 1}_{index + 1}_", 4 * width, 2 * width if sk or groups > 1 else width
        block = {"1x1_reduce.weight": (inner, channels, 1, 1)} | norm("1x1_reduce_bn", inner)
        if sk:
            d = max(inner // 16, (least or {}).get(stage + 1, 32))
            for branch in ("3x3g32", "3x3g32d2"):
                block |= {f"{branch}.weight": (inner, inner // 32, 3, 3)} | norm(f"{branch}_bn", inner)
            block |= {"B_fc1.weight": (d, inner, 1, 1), "B_fc2.weight": (2 * inner, d, 1, 1)} | norm("B_fc1_bn", d)
        else:
            block |= {"3x3.weight": (inner, inner // groups, 3, 3)} | norm("3x3_bn", inner)
            block |= linear("1x1_down", out // 16, out, 1, 1) | linear("1x1_up", out, out // 16, 1, 1)
        block |= {"1x1_increase.weight": (out, inner, 1, 1)} | norm("1x1_increase_bn", out)
        if projects:
            block |= {"1x1_proj.weight": (out, channels, 1, 1)} | norm("1x1_proj_bn", out)
        found |= {f"{name}{key}": shape for key, shape in block.items()}
    return found | linear("classifier", 1000, 2048)


def senet154(prefixed: bool) -> Shapes:
    """Of Cadene's network (prefixed), else of the Caffe graph."""
    stem = [("layer0.conv1", "layer0.bn1"), ("layer0.conv2", "layer0.bn2"), ("layer0.conv3", "layer0.bn3")]
    if not prefixed:
        stem = [(name, f"{name}_bn") for name in ("conv1_1_3x3_s2", "conv1_2_3x3", "conv1_3_3x3")]
    found: Shapes = {}
    for (conv, bn), outputs, inputs in zip(stem, (64, 64, 128), (3, 64, 64), strict=True):
        found |= {f"{conv}.weight": (outputs, inputs, 3, 3)} | norm(bn, outputs)
    names = (
        "conv1",
        "conv2",
        "conv3",
        "bn1",
        "bn2",
        "bn3",
        "se_module.fc1",
        "se_module.fc2",
        "downsample.0",
        "downsample.1",
    )
    caffes = ("1x1_reduce", "3x3", "1x1_increase", "1x1_reduce_bn", "3x3_bn", "1x1_increase_bn")
    c1, c2, c3, b1, b2, b3, f1, f2, d0, d1 = (
        names if prefixed else (*caffes, "1x1_down", "1x1_up", "1x1_proj", "1x1_proj_bn")
    )
    for stage, index, width, before, projects in stages(152):
        channels, out, k = 128 if before == 64 else before, 4 * width, 1 if stage == 1 else 3
        block = {f"{c1}.weight": (2 * width, channels, 1, 1), f"{c2}.weight": (out, width // 32, 3, 3)}
        block |= {f"{c3}.weight": (out, out, 1, 1)} | norm(b1, 2 * width) | norm(b2, out) | norm(b3, out)
        block |= linear(f1, out // 16, out, 1, 1) | linear(f2, out, out // 16, 1, 1)
        if projects:
            block |= {f"{d0}.weight": (out, channels, k, k)} | norm(d1, out)
        name = f"layer{stage}.{index}." if prefixed else f"conv{stage + 1}_{index + 1}_"
        found |= {f"{name}{key}": shape for key, shape in block.items()}
    return found | linear("last_linear" if prefixed else "classifier", 1000, 2048)


def cifar_se(blocks: int) -> Shapes:
    """moskomule's CIFAR networks."""
    found, channels = {"conv1.weight": (16, 3, 3, 3)} | norm("bn1", 16), 16
    for stage, width in enumerate((16, 32, 64), 1):
        for index in range(blocks):
            block = {"conv1.weight": (width, channels, 3, 3), "conv2.weight": (width, width, 3, 3)}
            block |= norm("bn1", width) | norm("bn2", width) | se("se", "fc.0", "fc.2", bias=False)(width)
            if channels != width:
                block |= {"downsample.0.weight": (width, channels, 1, 1)} | norm("downsample.1", width)
            found |= {f"layer{stage}.{index}.{key}": shape for key, shape in block.items()}
            channels = width
    return found | linear("fc", 10, 64)


def rows() -> dict[str, tuple[str, str, dict, Shapes]]:
    """name → source, class, constructor arguments, tensors."""
    found: dict[str, tuple[str, str, dict, Shapes]] = {}

    def add(source: str, cls: str, ctor: dict, keys: Shapes, label: str = "") -> None:
        found[f"{source.split('/')[1]} {cls}{label}"] = source, cls, ctor, keys

    jongchan, insight, cadene = "Jongchan/attention-module", "implus/PytorchInsight", "Cadene/pretrained-models.pytorch"
    for depth in (18, 34, 50, 101):
        for attention, what in ((None, {}), ("BAM", {"between": bam}), ("CBAM", {"inside": cbam})):
            ctor = {"network_type": "ImageNet", "depth": depth, "num_classes": 1000, "att_type": attention}
            add(jongchan, "ResidualNet", ctor, network(depth, **what), f" {depth} {attention}")
        for file, cls in (("bam", {"between": bam}), ("cbam", {"inside": cbam})):
            add(insight, f"resnet_{file}.{file}_resnet{depth}", {}, network(depth, **cls))
    ctor = {"network_type": "CIFAR100", "depth": 50, "num_classes": 100, "att_type": "CBAM"}
    add(jongchan, "ResidualNet", ctor, network(50, stem=3, inside=cbam, classes=100), " CIFAR100 50 CBAM")
    sge = {"sge.weight": (1, 64, 1, 1), "sge.bias": (1, 64, 1, 1)}
    for depth in COUNTS:
        add(insight, f"resnet_old.old_resnet{depth}", {}, network(depth))
        add(insight, f"resnet_se.se_resnet{depth}", {}, network(depth, inside=se("se", "fc.0", "fc.2")))
        add(insight, f"resnet_sge.sge_resnet{depth}", {}, network(depth, inside=lambda _: sge))
        light = light_kernel if depth >= 50 else None
        add(insight, f"resnet_sk.sk_resnet{depth}", {}, network(depth, kernel=light))
        bare = network(depth, inside=se("se", "fc.0", "fc.2", bias=False))
        add("moskomule/senet.pytorch", f"se_resnet{depth}", {}, bare)
        for ks in ((3, 3, 3, 3), (3, 5, 7, 9)):
            keys = network(depth)
            for stage, index, *_ in stages(depth):
                keys[f"layer{stage}.{index}.eca.conv.weight"] = (1, 1, ks[stage - 1])
            add("BangguWu/ECANet", f"eca_resnet{depth}", {"k_size": list(ks)}, keys, f" {ks[3]}")
    for name, blocks in ((20, 3), (32, 5), (56, 9)):
        add("moskomule/senet.pytorch", f"se_resnet{name}", {}, cifar_se(blocks))
    gate = se("se_module", "fc1", "fc2", 1, 1)
    for depth in (50, 101, 152):
        add("wofmanaf/SA-Net", f"sa_resnet{depth}", {}, network(depth, inside=sa))
        keys = network(depth, inside=gate, layer0="layer0.", head="last_linear")
        add(cadene, f"se_resnet{depth}", {}, keys)
        add("hujie-frank/SENet", f"models/SE-ResNet-{depth}.prototxt", {}, caffe(depth))
        ctor = {"depth": depth, "gcb": {"ratio": 1 / 4}, "stage_with_gcb": [False, True, True, True]}
        keys = network(depth, inside=context(1 / 4), first_stage=2, classes=None)
        add("xvjiarui/GCNet", "mmdet resnet.ResNet", ctor, keys, f" {depth}")
    for depth in (50, 101):
        keys = network(depth, inside=gate, layer0="layer0.", head="last_linear", groups=32, base=4)
        add(cadene, f"se_resnext{depth}_32x4d", {}, keys)
        add("hujie-frank/SENet", f"models/SE-ResNeXt-{depth}.prototxt", {}, caffe(depth, groups=32))
        least = {3: 16} if depth == 101 else {}
        add("implus/SKNet", f"models/sknet{depth}.prototxt", {}, caffe(depth, sk=True, least=least))
    add(cadene, "senet154", {}, senet154(True))
    add("hujie-frank/SENet", "models/SENet-154.prototxt", {}, senet154(False))
    return found

"""Forms that no golden file holds, against their equations written out in plain torch."""

import pytest
import torch
import torch.nn.functional as F

import foveate


def fresh(name: str, channels: int, **options) -> torch.nn.Module:
    module = foveate.create_attention(name, channels, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter) + 0.1)
    return module


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_the_papers_group_enhance_divides_by_the_number_of_positions():
    x, c = image(2, 8, 5, 3), 4
    ours = fresh("sge", 8, groups=2, variant="paper")
    for g in range(2):
        part = x[:, c * g : c * (g + 1)]
        t = (part * part.mean((2, 3), keepdim=True)).sum(1)
        t = t - t.mean((1, 2), keepdim=True)
        t = t / (t.square().mean((1, 2), keepdim=True).sqrt() + 1e-5)
        gate = torch.sigmoid(ours.weight[g] * t + ours.bias[g])
        torch.testing.assert_close(ours(x)[:, c * g : c * (g + 1)], part * gate.unsqueeze(1))


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_group_enhance_gates_one_position_by_its_bias(variant):
    x = image(2, 8, 1, 1).requires_grad_()
    ours = fresh("sge", 8, groups=2, variant=variant)
    y = ours(x)
    torch.testing.assert_close(y, x * torch.sigmoid(ours.bias).repeat_interleave(4).reshape(1, 8, 1, 1))
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.isfinite().all()


@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (16, 8), (64, 8), (64, 32), (512, 64), (2048, 64)])
def test_shuffle_attention_has_three_parameters_for_each_channel_of_a_group(channels, groups):
    module = foveate.create_attention("sa", channels, groups=groups)
    assert sum(parameter.numel() for parameter in module.parameters()) == 3 * channels // groups


@pytest.mark.parametrize("fusion", ["sum", "product"])
def test_the_papers_bottleneck_attention_ends_its_branches_with_norms(fusion):
    x, module = image(3, 8, 5, 4), fresh("bam", 8, reduction=2, variant="paper", fusion=fusion).train()
    c, s = module.channel_branch, module.spatial_branch

    def normed(v, norm):
        over = [0, *range(2, v.dim())]
        v = (v - v.mean(over, keepdim=True)) / (v.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
        shape = (1, -1) + (1,) * (v.dim() - 2)
        return v * norm.weight.reshape(shape) + norm.bias.reshape(shape)

    hidden = F.relu(normed(F.linear(x.mean((2, 3)), c.hidden[0].weight, c.hidden[0].bias), c.hidden[1]))
    channel = normed(F.linear(hidden, c.last.weight, c.last.bias), c.norm)[..., None, None]
    hidden = F.relu(normed(F.conv2d(x, s.hidden[0].weight, s.hidden[0].bias), s.hidden[1]))
    for i in (3, 6):
        wide = F.conv2d(hidden, s.hidden[i].weight, s.hidden[i].bias, padding=4, dilation=4)
        hidden = F.relu(normed(wide, s.hidden[i + 1]))
    spatial = normed(F.conv2d(hidden, s.last.weight, s.last.bias), s.norm)
    gate = torch.sigmoid(channel + spatial if fusion == "sum" else channel * spatial)
    torch.testing.assert_close(module(x), x * (1 + gate))


def test_the_light_selective_kernel_has_a_dense_and_a_grouped_branch():
    x, module = image(3, 64, 7, 5), fresh("sk", 64, form="light", stride=2).train()
    assert module.reduce.weight.shape == (4, 64)

    def branch(m, groups):
        y = F.conv2d(x, module.branches[m][0].weight, stride=2, padding=1, groups=groups)
        return F.relu(F.batch_norm(y, None, None, module.branches[m][1].weight, module.branches[m][1].bias, True))

    dense, grouped = branch(0, 1), branch(1, 32)
    hidden = F.linear(dense.mean((2, 3)) + grouped.mean((2, 3)), module.reduce.weight)
    hidden = F.relu(F.batch_norm(hidden, None, None, module.norm.weight, module.norm.bias, True))
    first, second = F.linear(hidden, module.expand.weight).split(64, 1)
    share = torch.sigmoid(first - second)[..., None, None]
    torch.testing.assert_close(module(x), share * dense + (1 - share) * grouped)


def test_a_third_branch_has_dilation_three():
    x, module = image(2, 32, 9, 9), fresh("sk", 32, branches=3).eval()
    pads = [branch[0].dilation for branch in module.branches]
    assert pads == [(1, 1), (2, 2), (3, 3)]
    assert module(x).shape == x.shape


def test_selective_kernels_have_the_sizes_dilations_and_groups_that_are_listed():
    x = image(2, 8, 9, 7)
    module = fresh("sk", 8, kernels=((3, 1), (5, 2)), groups=(2, "depthwise"), minimum=2).eval()
    both = [
        F.relu(branch[1](F.conv2d(x, branch[0].weight, padding=p, dilation=d, groups=g)))
        for branch, p, d, g in zip(module.branches, (1, 4), (1, 2), (2, 8), strict=True)
    ]
    hidden = F.relu(module.norm(F.linear(sum(both).mean((2, 3)), module.reduce.weight)))
    first, second = F.linear(hidden, module.expand.weight).split(8, 1)
    share = torch.sigmoid(first - second)[..., None, None]
    torch.testing.assert_close(module(x), share * both[0] + (1 - share) * both[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": ((3, 1),)}, "two or more pairs"),
        ({"kernels": (3, 5)}, "two or more pairs"),
        ({"kernels": ((3, 1), (4, 1))}, "positive odd number; got 4"),
        ({"kernels": ((3, 1), (3, 0))}, "dilation must be .* at least 1; got 0"),
        ({"kernels": ((3, 1), (5, 1)), "kernel_size": 3}, "kernels says kernel_size too"),
        ({"groups": "depth"}, "must be one of 'depthwise'; got 'depth'"),
        ({"groups": (2, 3, 4)}, "one for all branches or 2"),
    ],
)
def test_selective_kernels_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"sk: .*{message}"):
        foveate.create_attention("sk", 32, **options)


def excited(module, squeezed):
    return module.expand(F.relu(module.reduce(squeezed)))


def test_se_squeezes_by_cosines_of_the_lowest_frequencies():
    x, module = image(2, 6, 5, 4), fresh("se", 6, squeeze="dct", frequencies=3, reduction=2)
    along, across = torch.arange(5) + 0.5, torch.arange(4) + 0.5
    bases = torch.ones(3, 5, 4, dtype=torch.float64)
    bases[1] = torch.cos(torch.pi * across / 4)
    bases[2] = torch.cos(torch.pi * along / 5)[:, None]
    squeezed = (x * bases.repeat_interleave(2, 0)).mean((2, 3))
    torch.testing.assert_close(squeezed[:, :2], x[:, :2].mean((2, 3)))
    gate = torch.sigmoid(excited(module, squeezed))[..., None, None]
    torch.testing.assert_close(module(x), x * gate, rtol=1e-6, atol=1e-6)  # the indices are listed in float32
    listed = foveate.create_attention(
        "se", 6, squeeze="dct", frequencies=[(0, 0), (0, 1), (1, 0)], reduction=2
    ).double()
    listed.load_state_dict(module.state_dict())
    assert torch.equal(listed(x), module(x))


def test_se_squeezes_by_the_root_of_the_covariance():
    x, module = image(2, 4, 9, 8), fresh("se", 4, squeeze="cov", reduction=2)
    centred = x.flatten(2) - x.flatten(2).mean(2, keepdim=True)
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2) / 72)
    root = vectors @ torch.diag_embed(values.sqrt()) @ vectors.transpose(1, 2)
    gate = torch.sigmoid(excited(module, root.mean(2)))[..., None, None]
    torch.testing.assert_close(module(x), x * gate, rtol=1e-3, atol=1e-3)  # five steps towards the root


def test_se_squeezes_by_a_pyramid_of_cells():
    x, module = image(2, 4, 6, 4), fresh("se", 4, squeeze="pyramid", levels=(1, 2), reduction=2)
    cells = [x, x[..., :3, :2], x[..., :3, 2:], x[..., 3:, :2], x[..., 3:, 2:]]
    gate = torch.sigmoid(excited(module, torch.cat([cell.mean((2, 3)) for cell in cells], 1)))[..., None, None]
    torch.testing.assert_close(module(x), x * gate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"squeeze": "dct", "frequencies": 5}, "multiple of frequencies = 5; got 32 .frequencies=4 would do"),
        ({"squeeze": "dct", "frequencies": [(0, 1, 2)]}, "lists of 2 indices"),
        ({"frequencies": 4}, "frequencies belongs to squeeze='dct'; got squeeze='avg'"),
        ({"squeeze": "pyramid", "levels": (0, 2)}, "levels must be numbers of cells of at least 1"),
        ({"squeeze": "dct", "levels": (1, 2)}, "levels belongs to squeeze='pyramid'"),
    ],
)
def test_squeezes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"se: .*{message}"):
        foveate.create_attention("se", 32, **options)


@pytest.mark.parametrize("pooling", ["att", "avg"])
def test_global_context_multiplies_first_and_adds_then(pooling):
    x, module = image(2, 8, 4, 3), fresh("gc", 8, ratio=0.5, pooling=pooling, fusion="both")
    flat = x.flatten(2)
    weights = torch.full((2, 12), 1 / 12, dtype=torch.float64)
    if pooling == "att":
        weights = torch.softmax((flat * module.mask.weight.reshape(1, 8, 1)).sum(1) + module.mask.bias, -1)
    context = (flat * weights.unsqueeze(1)).sum(-1)

    def transform(t):
        hidden = F.linear(context, t[0].weight, t[0].bias)
        hidden = F.relu(F.layer_norm(hidden, (4,), t[1].weight, t[1].bias))
        return F.linear(hidden, t[3].weight, t[3].bias)[..., None, None]

    torch.testing.assert_close(module(x), x * torch.sigmoid(transform(module.mul)) + transform(module.add))


@pytest.mark.parametrize(("fusion", "identity"), [("add", True), ("mul", False), ("both", False)])
def test_global_context_starts_as_it_says(fusion, identity):
    x = image(2, 16, 4, 3)
    module = foveate.create_attention("gc", 16, fusion=fusion).double()
    assert module.starts_as_identity is identity
    torch.testing.assert_close(module(x), x if identity else x / 2, rtol=0, atol=0)


def test_coordinate_attention_of_a_volume_has_a_strip_an_axis():
    x, module = image(2, 8, 4, 3, 2), fresh("ca", 8, spatial_dims=3, minimum=4).eval()
    strips = torch.cat([x.mean((3, 4)), x.mean((2, 4)), x.mean((2, 3))], -1)
    hidden = F.conv1d(strips, module.reduce.weight, module.reduce.bias)
    hidden = module.norm(hidden)
    hidden = hidden * F.relu6(hidden + 3) / 6
    gates = [
        torch.sigmoid(F.conv1d(part, conv.weight, conv.bias))
        for part, conv in zip(hidden.split([4, 3, 2], -1), module.gates, strict=True)
    ]
    expected = x * gates[0][..., None, None] * gates[1][:, :, None, :, None] * gates[2][:, :, None, None, :]
    torch.testing.assert_close(module(x), expected)


def test_shuffle_attention_interleaves_the_halves_of_the_channels():
    x = image(2, 16, 3, 3)
    module = foveate.create_attention("sa", 16, groups=2).double()
    gated = x * torch.sigmoid(torch.tensor(1.0, dtype=torch.float64))
    expected = torch.stack((gated[:, :8], gated[:, 8:]), 2).flatten(1, 2)
    torch.testing.assert_close(module(x), expected)

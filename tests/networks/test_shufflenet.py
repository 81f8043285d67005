"""ShuffleNet's units against their definitions, written out again here; the shuffles; torchvision's network."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from golden import OWN_GOLDEN, check, golden_files, golden_loader

import foveate
from foveate.networks.shufflenet_v1 import ShuffleUnit, channel_shuffle, stage_widths
from foveate.networks.shufflenet_v2 import ShuffleUnitV2


@pytest.mark.parametrize("path", golden_files("shufflenet_*"), ids=lambda path: path.stem)
def test_shufflenet_equals_the_official_numbers(path):
    module, to_ours = golden_loader(path)
    check(path, module, to_ours)


def test_shufflenet_golden_files_are_kept_here(shared):
    files = sorted((shared / "golden").glob("shufflenet_*"))
    assert len(files) == 14
    assert all((OWN_GOLDEN / path.name).read_bytes() == path.read_bytes() for path in files)


def test_the_shuffles_are_each_others_inverse():
    x = torch.arange(12.0).reshape(1, 12, 1, 1)
    paper = channel_shuffle(x, 3, variant="paper").flatten()
    n, g = 4, 3
    assert all(paper[j * g + i] == i * n + j for i in range(g) for j in range(n))
    assert torch.equal(channel_shuffle(channel_shuffle(x, 3, variant="paper"), 3), x)
    assert torch.equal(channel_shuffle(x, 1), x)


def norm(x, module):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    scale, shift = module.weight.view(1, -1, 1, 1), module.bias.view(1, -1, 1, 1)
    return (x - mean) / (var + module.eps).sqrt() * scale + shift


def grouped(x, weight, groups):
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), strict=True)
    return torch.cat([torch.einsum("nchw,oc->nohw", a, w[:, :, 0, 0]) for a, w in parts], 1)


def unit_of_the_paper(x, unit, groups, stride):
    y = F.relu(norm(grouped(x, unit.reduce[0].weight, groups), unit.reduce[1]))
    n = y.shape[1] // groups
    y = y[:, [i * n + j for j in range(n) for i in range(groups)]]
    padded = F.pad(y, (1, 1, 1, 1))
    rows, columns = (-(-side // stride) for side in y.shape[2:])
    kernel = unit.depthwise[0].weight
    y = sum(
        padded[:, :, a : a + rows * stride : stride, b : b + columns * stride : stride] * kernel[:, 0, a, b, None, None]
        for a in range(3)
        for b in range(3)
    )
    y = norm(grouped(norm(y, unit.depthwise[1]), unit.expand[0].weight, groups), unit.expand[1])
    if stride == 1:
        return F.relu(x + y)
    padded = F.pad(x, (1, 1, 1, 1))
    windows = [padded[:, :, a : a + 2 * rows : 2, b : b + 2 * columns : 2] for a in range(3) for b in range(3)]
    return F.relu(torch.cat([sum(w[:, :, :rows, :columns] for w in windows) / 9, y], 1))


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_the_units_of_figure_2(groups, stride, size):
    """(a) is groups=1, (b) stride 1, (c) stride 2."""
    width = 24 if stride == 1 else 48
    unit = ShuffleUnit(24, width, groups=groups, stride=stride, variant="paper").double()
    for module in (unit.reduce[1], unit.depthwise[1], unit.expand[1]):
        torch.nn.init.normal_(module.weight)
        torch.nn.init.normal_(module.bias)
    x = torch.randn(3, 24, *size, dtype=torch.float64)
    torch.testing.assert_close(unit(x), unit_of_the_paper(x, unit, groups, stride), rtol=1e-9, atol=1e-10)


def test_without_shuffle_groups_never_meet():
    """The ablation: then an output group of unit (b) depends on its own input group alone."""
    x = torch.randn(1, 24, 4, 4, requires_grad=True)
    for shuffle in (True, False):
        for variant in ("official", "paper"):
            unit = ShuffleUnit(24, 24, groups=3, shuffle=shuffle, variant=variant).eval()
            for bn in (unit.reduce[1], unit.depthwise[1], unit.expand[1]):
                torch.nn.init.constant_(bn.bias, 3.0)  # nothing is cut off
            (grad,) = torch.autograd.grad(unit(x)[:, :8].sum(), x)
            assert (grad[:, 8:].abs().sum() > 0) == shuffle
    plain, without = (foveate.create_network("shufflenet_v1", shuffle=shuffle) for shuffle in (True, False))
    assert plain.state_dict().keys() == without.state_dict().keys()


def test_attention_in_a_shuffle_unit_stands_at_the_end_of_its_branch():
    made = []

    def attention(channels):
        made.append(channels)
        return torch.nn.Threshold(1e9, 0.0)  # nothing comes through

    unit = ShuffleUnit(12, 36, groups=3, stride=2, attention=attention)
    x = torch.randn(2, 12, 6, 6)
    assert made == [24]
    assert torch.equal(unit(x)[:, :12], F.avg_pool2d(x, 3, 2, 1))
    assert (unit(x)[:, 12:] == 0).all()
    assert torch.equal(ShuffleUnit(12, 12, attention=attention)(x), x.relu())


def test_widths_follow_the_paper_and_the_release():
    assert stage_widths(3, 1.0) == (24, 240, 480, 960)
    assert stage_widths(3, 0.5) == (12, 120, 240, 480)
    assert stage_widths(8, 0.5) == (16, 192, 384, 768)
    assert stage_widths(3, 1.5) == (24, 360, 720, 1440)
    assert stage_widths(8, 2.0) == (48, 768, 1536, 3072)
    assert stage_widths(3, 0.25) == (12, 60, 120, 240)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("width", [0.25, 0.5, 0.8])
def test_every_group_goes_with_every_width(groups, width):
    network = foveate.create_network("se_shufflenet_v1", groups=groups, width=width, num_classes=3, in_channels=1)
    assert network.eval()(torch.randn(1, 1, 45, 33)).shape == (1, 3)


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (1, 1)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_v2_units_of_both_forms(stride, size):
    x = torch.randn(2, 8, *size)
    for form, kept in (("torchvision", 10), ("megvii", 8)):
        width = 8 if stride == 1 else 20
        unit = ShuffleUnitV2(8, width, stride=stride, form=form).eval()
        y = unit(x)
        assert y.shape == (2, width, *(-(-side // stride) for side in size))
        if stride == 2:
            halves = unit.other(x), unit.branch(x)
            assert halves[0].shape[1] == kept
        else:
            a, b = (x[:, :4], x[:, 4:]) if form == "torchvision" else (x[:, ::2], x[:, 1::2])
            halves = a, unit.branch(b)
        joined = torch.cat(halves, 1)
        if form == "torchvision":
            joined = joined[:, [place for i in range(width // 2) for place in (i, width // 2 + i)]]
        torch.testing.assert_close(y, joined)


def test_v2_without_shuffle_passes_the_first_half_by():
    for form in ("torchvision", "megvii"):
        unit = ShuffleUnitV2(8, 8, form=form, shuffle=False)
        x = torch.randn(2, 8, 5, 5)
        assert torch.equal(unit(x)[:, :4], x[:, :4])


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "shufflenet_v2_x2_0"])
def test_torchvisions_shufflenet_loads_and_gives_its_outputs(name):
    theirs = torchvision.models.get_model(name, weights=None).eval()
    ours = foveate.official.load("pytorch/vision", name, {}, theirs.state_dict())
    x = torch.randn(1, 3, 75, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)

"""Spatial-reduction attention inside the two released MiTs, rebuilt from its pieces, and what it does with odd maps."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_files
from golden import assert_golden, part, read
from torch import nn

import foveate
from foveate.official.umixformer import unpacked

NVLABS, MMSEG = "NVlabs/SegFormer", "julian-klitzing/u-mixformer"
ATTENTION = {"q": "query", "kv": "key_value", "proj": "out", "sr": "reduce", "norm": "norm"}


class Feed(nn.Module):
    """MiT's feed-forward sub-layer on a map."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.reduce = nn.Linear(width, width * ratio), nn.Linear(width * ratio, width)
        self.depthwise = nn.Conv2d(width * ratio, width * ratio, 3, padding=1, groups=width * ratio)

    def forward(self, x):
        hidden = self.expand(self.norm(x.movedim(1, -1))).movedim(-1, 1)
        return x + self.reduce(F.gelu(self.depthwise(hidden)).movedim(1, -1)).movedim(-1, 1)


class Normed(nn.Sequential):
    """Layers on a map, then a layer norm of its channels."""

    def __init__(self, *layers: nn.Module, width: int, eps: float) -> None:
        super().__init__(*layers)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x):
        for layer in list(self)[:-1]:
            x = layer(x)
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def mit(widths, heads, ratio, eps):
    """Four stages, each of one block; the tiny networks of the golden files."""
    stages, before = nn.ModuleList(), 3
    for stage, (width, head, reduction) in enumerate(zip(widths, heads, (8, 4, 2, 1), strict=True)):
        size, stride = (3, 2) if stage else (7, 4)
        embed = Normed(nn.Conv2d(before, width, size, stride, size // 2), width=width, eps=eps)
        attention = foveate.create_attention("sra", width, heads=head, reduction=reduction, eps=eps)
        stages.append(Normed(embed, attention, Feed(width, ratio), width=width, eps=1e-6))
        before = width
    return stages


def nvlabs_keys(stage):
    """Our name → theirs."""
    block, at = f"block{stage + 1}.0.", f"{stage}."
    feed = {"norm": "norm2", "expand": "mlp.fc1", "depthwise": "mlp.dwconv.dwconv", "reduce": "mlp.fc2"}
    return {
        f"{at}0.0": f"patch_embed{stage + 1}.proj",
        f"{at}0.norm": f"patch_embed{stage + 1}.norm",
        f"{at}1.before": f"{block}norm1",
        **{f"{at}1.{ours}": f"{block}attn.{theirs}" for theirs, ours in ATTENTION.items()},
        **{f"{at}2.{ours}": f"{block}{theirs}" for ours, theirs in feed.items()},
        f"{at}norm": f"norm{stage + 1}",
    }


def mmseg_keys(stage):
    block, at = f"layers.{stage}.1.0.", f"{stage}."
    feed = {"norm": "norm2", "expand": "ffn.layers.0", "depthwise": "ffn.layers.1", "reduce": "ffn.layers.4"}
    inside = {"query": "attn.q", "key_value": "attn.kv", "out": "attn.out_proj", "reduce": "sr", "norm": "norm"}
    return {
        f"{at}0.0": f"layers.{stage}.0.projection",
        f"{at}0.norm": f"layers.{stage}.0.norm",
        f"{at}1.before": f"{block}norm1",
        **{f"{at}1.{ours}": f"{block}attn.{theirs}" for ours, theirs in inside.items()},
        **{f"{at}2.{ours}": f"{block}{theirs}" for ours, theirs in feed.items()},
        f"{at}norm": f"layers.{stage}.2",
    }


@pytest.mark.parametrize("path", golden_files("mit_*__tiny*"), ids=lambda path: path.stem)
def test_four_stages_around_it_equal_the_released_network(path):
    header, tensors = read(path)
    ctor = header["ctor"]
    if header["source"] == NVLABS:
        network, keys = mit(ctor["embed_dims"], ctor["num_heads"], ctor["mlp_ratios"][0], 1e-5), nvlabs_keys
    else:
        widths = [ctor["embed_dims"] * heads for heads in ctor["num_heads"]]
        network, keys = mit(widths, ctor["num_heads"], ctor["mlp_ratio"], 1e-6), mmseg_keys
    names = {ours: theirs for stage in range(4) for ours, theirs in keys(stage).items()}

    def theirs(name):
        return f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}"

    network.double()
    state, grads = unpacked(part(tensors, "param.")), unpacked(part(tensors, "grad."))
    ours = network.state_dict()
    assert {theirs(name) for name in ours} == set(state)
    network.load_state_dict({name: state[theirs(name)].reshape(value.shape) for name, value in ours.items()})
    x = image = tensors["input"].clone().requires_grad_()
    loss = 0.0
    for number, stage in enumerate(network):
        x = stage(x)
        assert_golden(x, tensors[f"output.{number}"], f"stage {number}")
        loss = loss + (x * tensors[f"cotangent.{number}"]).sum()
    loss.backward()
    assert_golden(image.grad, tensors["grad_input"], "gradient of the input")
    scale = max(grad.abs().max().item() for grad in grads.values())
    for name, parameter in network.named_parameters():
        wanted = grads[theirs(name)].reshape(parameter.shape)
        assert_golden(parameter.grad, wanted, f"gradient of {theirs(name)}", scale)


@pytest.mark.parametrize("path", golden_files("mit_*__tiny*"), ids=lambda path: path.stem)
@pytest.mark.parametrize("stage", range(4))
def test_the_released_attention_alone_is_loaded_by_its_own_keys(path, stage):
    header, tensors = read(path)
    ctor, params = header["ctor"], part(tensors, "param.")
    heads, reduction = ctor["num_heads"][stage], (8, 4, 2, 1)[stage]
    given = {"num_heads": heads, "qkv_bias": True, "sr_ratio": reduction}
    if header["source"] == NVLABS:
        state, width = part(params, f"block{stage + 1}.0.attn."), ctor["embed_dims"][stage]
        call = (NVLABS, "Attention", given | {"dim": width})
        last = "proj.weight"
    else:
        state, width = part(params, f"layers.{stage}.1.0.attn."), ctor["embed_dims"] * heads
        norm = {"type": "LN", "eps": 1e-6}
        call = (MMSEG, "EfficientMultiheadAttention", given | {"embed_dims": width, "norm_cfg": norm})
        last = "attn.out_proj.weight"
    module = foveate.official.load(*call, state)
    x = torch.randn(2, width, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(module(x), plainly(module, x), rtol=1e-9, atol=1e-10)
    del state[last]
    with pytest.raises(ValueError, match=f"missing key '{last}'"):
        foveate.official.load(*call, state)


def plainly(module, x):
    """The bare form, head by head, with every pair."""
    tokens = x.flatten(2).mT
    source = tokens if module.reduce is None else module.norm(module.reduce(x).flatten(2).mT)
    q, (k, v) = module.query(tokens), module.key_value(source).chunk(2, -1)
    width, mixed = x.shape[1] // module.heads, []
    for head in range(module.heads):
        at = slice(head * width, (head + 1) * width)
        weights = torch.softmax(q[..., at] @ k[..., at].mT / math.sqrt(width), -1)
        mixed.append(weights @ v[..., at])
    return module.out(torch.cat(mixed, -1)).mT.unflatten(2, x.shape[2:])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_what_whole_windows_leave_makes_no_keys_and_a_small_map_makes_one(dims):
    module = foveate.create_attention("sra", 8, spatial_dims=dims, heads=2, reduction=3, form="bare").double()
    sides = (10, 7, 4)[:dims]
    x = torch.randn(2, 8, *sides, dtype=torch.float64)
    torch.testing.assert_close(module(x), plainly(module, x))
    cut = tuple(slice(side // 3 * 3) for side in sides)
    moved = x.clone()
    moved[(..., -1)] = 9.0
    with foveate.capture(module, queries=[0]) as seen:
        module(x)
    assert seen.maps[""]["affinity"].shape == (2, 1, math.prod(side // 3 for side in sides))
    inner = module(moved)[(slice(None), slice(None), *cut)]
    torch.testing.assert_close(inner, module(x)[(slice(None), slice(None), *cut)])
    small = x[(slice(None), slice(None), *(slice(2) for _ in sides))]
    filled = F.pad(small, (0, 1) * dims)
    whole = module.norm(module.reduce(filled).flatten(2).mT)
    values = module.key_value(whole).chunk(2, -1)[1]
    torch.testing.assert_close(module(small), module.out(values).mT.unflatten(2, (1,) * dims).expand_as(small))


def test_the_affinity_that_is_shown_is_the_mean_of_the_heads():
    module = foveate.create_attention("sra", 6, heads=3, form="bare").double()
    with torch.no_grad():
        module.query.weight.mul_(50)
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    with foveate.capture(module, queries="all") as seen:
        module(x)
    tokens = x.flatten(2).mT
    keys = module.key_value(module.norm(module.reduce(x).flatten(2).mT))[..., :6]
    logits = module.query(tokens).unflatten(2, (3, 2)).transpose(1, 2) @ keys.unflatten(2, (3, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(seen.maps[""]["affinity"], torch.softmax(logits / 2**0.5, -1).mean(1))


def test_heads_unless_given_leave_each_a_width_of_32_or_more():
    heads = {c: foveate.create_attention("sra", c, reduction=1).heads for c in (1, 31, 32, 64, 80, 97, 160, 256)}
    assert heads == {1: 1, 31: 1, 32: 1, 64: 2, 80: 2, 97: 1, 160: 5, 256: 8}
    for options, message in (
        ({"heads": 5}, r"heads must divide channels = 64 \(1, 2, 4, 8, 16, 32, 64\); got 5"),
        ({"reduction": 0}, "reduction must be a positive whole number; got 0"),
        ({"form": "pre"}, "form must be one of 'block', 'bare'; got 'pre'"),
        ({"attention_budget_mib": 0}, "attention_budget_mib must be a positive number or None; got 0"),
    ):
        with pytest.raises(ValueError, match=f"sra: {message}"):
            foveate.create_attention("sra", 64, **options)

"""Spatial-reduction attention by the keys of the two released MiTs, and what it does with odd maps."""

import math

import pytest
import torch
import torch.nn.functional as F
from golden import golden_files, part, read

import foveate

NVLABS, MMSEG = "NVlabs/SegFormer", "julian-klitzing/u-mixformer"


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

"""Networks whose features have channels last or are tokens: what is found, and that nothing else changes."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from insertion_networks import Gate, SequenceFirst, Tokens, lively
from torch import Tensor, nn

from foveate.insertion import Blend, insert, inserted, insertions, reinsert, remove, sites

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def timm_model(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: lively(timm.create_model(name, num_classes=3, **options))


SWIN = {"embed_dim": 24, "depths": (2, 2), "num_heads": (1, 2)}
NETWORKS = {
    "vit": timm_model("vit_tiny_patch16_224", img_size=64, depth=2),
    "vit with registers": timm_model("vit_small_patch14_reg4_dinov2", img_size=56, depth=2, embed_dim=48, num_heads=2),
    "deit": timm_model("deit_tiny_distilled_patch16_224", img_size=64, depth=2),
    "beit": timm_model("beit_base_patch16_224", img_size=64, depth=2, embed_dim=48, num_heads=2),
    "swin": timm_model("swin_tiny_patch4_window7_224", img_size=64, window_size=4, **SWIN),
    "swin v2": timm_model("swinv2_tiny_window8_256", img_size=64, window_size=4, **SWIN),
    "convnext": timm_model("convnext_atto", depths=(1, 1, 1, 1)),
    "levit": timm_model("levit_128s", img_size=64),
    "pvt": timm_model("pvt_v2_b0"),
    "mixer": timm_model("mixer_s32_224", img_size=64),
    "gated mixer": timm_model("gmixer_12_224", img_size=64),
    "torchvision swin": lambda: lively(
        torchvision.models.SwinTransformer([4, 4], 24, [2, 2], [1, 2], [4, 4], num_classes=3)
    ),
    "torchvision vit": lambda: lively(torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3)),
    "tokens": lambda: lively(Tokens()),
}
EXAMPLES = {"vit with registers": X[..., :56, :56]}
CLASS_TOKEN = {"vit", "vit with registers", "deit", "torchvision vit", "tokens"}
"""Their heads read tokens that attention never sees, so that nothing behind the last mixing of tokens reaches them."""


@pytest.mark.parametrize(
    ("name", "blocks", "first", "second", "stages"),
    [
        ("vit", 4, ("blocks.0.attn.proj", "NLC+1", (4, 4)), ("blocks.0.mlp.fc2", "NLC+1", (4, 4)), ["blocks"]),
        ("vit with registers", 4, ("blocks.0.ls1", "NLC+5", (4, 4)), ("blocks.0.ls2", "NLC+5", (4, 4)), ["blocks"]),
        ("deit", 4, ("blocks.0.attn.proj", "NLC+2", (4, 4)), ("blocks.0.mlp.fc2", "NLC+2", (4, 4)), ["blocks"]),
        ("beit", 4, ("blocks.0.attn.proj", "NLC+1", (4, 4)), ("blocks.0.mlp.fc2", "NLC+1", (4, 4)), ["blocks.1"]),
        (
            "swin",
            8,
            ("layers.0.blocks.0.drop_path1", "NHWC", (16, 16)),
            ("layers.0.blocks.0.mlp.fc2", "NLC", (16, 16)),
            ["layers.0", "layers.1"],
        ),
        (
            "swin v2",
            8,
            ("layers.0.blocks.0.norm1", "NHWC", (16, 16)),
            ("layers.0.blocks.0.norm2", "NLC", (16, 16)),
            ["layers.0", "layers.1"],
        ),
        (
            "levit",
            20,
            ("stages.0.blocks.0.attn.proj.ln", "NLC", (4, 4)),
            ("stages.0.blocks.0.mlp.ln2", "NLC", (4, 4)),
            ["stages.0", "stages.1", "stages.2"],
        ),
        (
            "pvt",
            16,
            ("stages.0.blocks.0.attn.proj", "NLC", (16, 16)),
            ("stages.0.blocks.0.mlp.fc2", "NLC", (16, 16)),
            ["stages.0", "stages.1", "stages.2", "stages.3"],
        ),
        (
            "mixer",
            16,
            ("blocks.0.mlp_tokens.fc2", "NC(HW)", (2, 2)),
            ("blocks.0.mlp_channels.fc2", "NLC", (2, 2)),
            ["blocks"],
        ),
        (
            "gated mixer",
            24,
            ("blocks.0.mlp_tokens.fc2", "NC(HW)", (4, 4)),
            ("blocks.0.mlp_channels.fc2", "NLC", (4, 4)),
            ["blocks"],
        ),
        (
            "torchvision swin",
            8,
            ("features.1.0.attn", "NHWC", (16, 16)),
            ("features.1.0.mlp.3", "NHWC", (16, 16)),
            ["features.1", "features.3"],
        ),
        (
            "torchvision vit",
            4,
            ("encoder.layers.encoder_layer_0.dropout", "NLC+1", (4, 4)),
            ("encoder.layers.encoder_layer_0.mlp.3", "NLC+1", (4, 4)),
            ["encoder"],
        ),
        ("tokens", 4, ("blocks.0.mix", "NLC+1", (8, 8)), ("blocks.0.mlp.2", "NLC+1", (8, 8)), ["blocks.1"]),
    ],
)
def test_where(
    name: str, blocks: int, first: tuple[object, ...], second: tuple[object, ...], stages: list[str]
) -> None:
    found = sites(NETWORKS[name](), EXAMPLES.get(name, X))
    ends = [(s.name, s.layout, s.shape) for s in found if s.kind == "block"]
    assert (len(ends), ends[0], ends[1]) == (blocks, first, second)
    assert [s.name for s in found if s.kind == "stage"] == stages


@pytest.mark.parametrize("name", NETWORKS)
def test_identity_removal_and_copies(name: str) -> None:
    model, x = NETWORKS[name](), EXAMPLES.get(name, X)
    for parameter in model.parameters():
        if not parameter.any():  # a head or scale that starts at zero would hide what happens before it
            nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        model(x)  # LeViT keeps what it computed first, and could not be copied with its graph
    plain, state = model(x).detach(), copy.deepcopy(model.state_dict())
    for kind in ("block", "stage"):
        report = insert(model, Gate, at=kind, example=x, init="identity")
        assert len(report) == len(sites(model, x, kind))
        assert (model(x) - plain).abs().max() <= 1e-6 * plain.abs().max()
        assert {k for k in model.state_dict() if ".foveate." not in k} == set(state)
        result = model.load_state_dict(state, strict=True)
        assert (result.missing_keys, result.unexpected_keys) == ([], [])
        model(x).square().sum().backward()
        silent = 0
        for placement, module in zip(report, dict(inserted(model)).values(), strict=True):
            assert isinstance(module, Blend)
            assert module.strength.grad is not None
            assert placement.unread == bool(module.strength.grad == 0)
            assert (f"{placement.site.name}: only the tokens before" in str(report)) == placement.unread
            silent += placement.unread
            module.strength.data.fill_(0.7)
        assert silent == (name in CLASS_TOKEN) * (2 if kind == "block" else 1)
        changed = model(x)
        assert silent == len(report) or (changed - plain).abs().max() > 1e-5 * plain.abs().max()
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(x), changed)
        remove(model)
        assert list(model.state_dict()) == list(state)
        assert torch.equal(model(x), plain)


class Doubles(nn.Module):
    """Twice the map, and a note of what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return 2 * x


def test_tokens_come_as_a_map_and_the_class_token_passes_by() -> None:
    model = lively(Tokens())
    plain = model.blocks[0].mix(x := torch.randn(2, 65, 12))
    insert(model, Doubles, at="blocks.0.mix", example=X)
    y, site = model.blocks[0].mix(x), dict(inserted(model))["blocks.0.mix"]
    seen = site.attention.seen[-1]  # type: ignore[union-attr,index]
    assert torch.equal(seen, plain[:, 1:].mT.unflatten(2, (8, 8)))
    assert torch.equal(y, torch.cat([plain[:, :1], 2 * plain[:, 1:]], 1))


def test_channels_last_come_as_a_map() -> None:
    model = NETWORKS["torchvision swin"]()
    plain = model.features[1][0].mlp(x := torch.randn(2, 16, 16, 24))
    insert(model, Doubles, at="features.1.0.mlp", example=X)
    assert torch.equal(model.features[1][0].mlp(x), 2 * plain)
    assert dict(inserted(model))["features.1.0.mlp"].attention.seen[-1].shape == (2, 24, 16, 16)  # type: ignore[union-attr,index]


def test_other_numbers_of_tokens() -> None:
    model = timm_model("vit_tiny_patch16_224", img_size=64, depth=1, dynamic_img_size=True)()
    insert(model, Doubles, at="blocks", example=X)
    model(torch.randn(1, 3, 96, 96))
    seen = dict(inserted(model))["blocks"].attention.seen[-1]  # type: ignore[union-attr,index]
    assert seen.shape == (1, 192, 6, 6)
    with pytest.raises(ValueError, match=r"tokens of a grid like 4×4 behind 1 others.* got 24"):
        dict(inserted(model))["blocks"](torch.randn(1, 25, 192))


def test_the_grid_is_that_of_the_input_of_any_aspect_ratio_in_copies_and_by_recipe_too() -> None:
    model = lively(Tokens())
    insert(model, "ca", at="blocks.0", example=X[..., :40], init="paper")
    again = lively(Tokens())
    reinsert(again, json.loads(json.dumps(insertions(model))))
    again.load_state_dict(model.state_dict())
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), again]
    for size in ((40, 64), (101, 37), (64, 64)):  # the first has as many tokens as the example, on another grid
        x = torch.randn(1, 3, *size)
        there = lively(Tokens())
        insert(there, "ca", at="blocks.0", example=x, init="paper")
        there.load_state_dict(model.state_dict())
        expected = there(x)
        for one in (model, *copies):
            assert torch.equal(one(x), expected), size


def test_tokens_of_clips_have_a_stride_of_their_own_along_the_frames() -> None:
    def clips(size: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        model = Tokens()
        model.patches = nn.Conv3d(3, 12, (2, 8, 8), (2, 8, 8))
        x = torch.randn(1, 3, *size)
        insert(lively(model), "cbam", at="blocks.0", example=x, init="paper", reduction=4)
        return model.eval(), x

    model, _ = clips((4, 64, 40))
    for size in ((4, 40, 64), (6, 32, 48)):
        there, x = clips(size)
        there.load_state_dict(model.state_dict())
        assert torch.equal(model(x), there(x))


@pytest.mark.parametrize("name", ["vit", "swin", "tokens"])
def test_compile_and_export(name: str) -> None:
    torch._dynamo.reset()
    model = NETWORKS[name]()
    insert(model, Gate, at="block/2", example=X)
    expected = model(X)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(X), expected)
    torch.testing.assert_close(torch.export.export(model, (X,)).module()(X), expected)


def test_what_is_not_understood_says_what_was_seen() -> None:
    x = torch.randn(2, 3, 16, 16)
    with pytest.raises(
        LookupError, match=r"\(64, 2, 12\) with channels on axis 2, whose first axis is not the batch \(2\)"
    ):
        sites(SequenceFirst(), x)
    with pytest.raises(ValueError, match=r"mix: it gives a tensor \(64, 2, 12\) .* sequence first"):
        sites(SequenceFirst(), x, "mix")
    with pytest.raises(ValueError, match=r"whose 63 tokens are no grid that was seen before \(64, 8×8"):
        sites(Tokens(drop=2), x, "blocks.0.mix")
    dropping = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, patch_drop_rate=0.5).eval()
    with pytest.raises(LookupError, match="tokens are dropped at random in training"):
        sites(dropping, X)
    hiera = timm.create_model("hiera_tiny_224", img_size=64, num_classes=3).eval()
    with pytest.raises(LookupError, match="tokens are not in the order of their grid"):
        sites(hiera, X)


def test_fused_layers_that_bypass_their_modules_are_noticed() -> None:
    layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 12, 2, 2), nn.Flatten(2), Transpose(), layer).eval()
    with pytest.raises(ValueError, match=r"3.linear2: ran 0 times.*[\s\S]*fastpath"):
        insert(model, Gate, at="3.linear2", example=torch.randn(2, 3, 16, 16))
    assert inserted(model) == []
    assert len(insert(model, Gate, at="3", example=torch.randn(2, 3, 16, 16))) == 1


class Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mT

"""Attention before prediction heads: on each of the maps that a module gives together."""

import copy
import pickle

import pytest
import torch
from torch import nn

import foveate
from foveate.insertion import insertions, reinsert
from foveate.networks import build_network

IMAGES = ([torch.rand(3, 64, 64), torch.rand(3, 48, 64)],)
LEVELS = ["backbone:0", "backbone:1", "backbone:2", "backbone:p6", "backbone:p7"]


def detector():
    return build_network(
        "torchvision:fcos_resnet50_fpn",
        num_classes=4,
        size=64,
        backbone="timm:test_resnet",
        channels=32,
        score_thresh=0.0,
    ).eval()


def found(model):
    with torch.no_grad():
        return [value for one in model(*IMAGES) for value in one.values()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_level_gets_its_own_module_and_removing_them_leaves_the_detector_as_it_was():
    model = detector()
    before, state = found(model), copy.deepcopy(model.state_dict())
    kind = type(model.backbone)
    report = foveate.insert(model, "se", at="head", example=IMAGES, init="identity", reduction=4)
    assert [placement.site.name for placement in report] == LEVELS
    assert {placement.site.kind for placement in report} == {"head"}
    assert [placement.site.shape for placement in report][::4] == [(8, 8), (1, 1)]
    assert same(before, found(model)), "an identity start changes nothing"
    assert not torch.equal(*(next(module.attention.parameters()) for _, module in foveate.inserted(model)[:2]))
    model.load_state_dict(state, strict=True)  # the plain detector's checkpoint
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert [name for name, _ in foveate.inserted(twin)] == LEVELS
        assert same(before, found(twin))
    foveate.remove(model)
    assert type(model.backbone) is kind
    assert list(model.state_dict()) == list(state)
    assert same(before, found(model))


def test_coarser_levels_are_made_of_the_finer_ones_before_those_are_changed():
    class Zero(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return 0 * x

    model = detector()
    levels = {}
    model.head.register_forward_pre_hook(lambda _, given: levels.update(enumerate(given[0])))
    foveate.insert(model, Zero, at="backbone:p6", example=IMAGES)
    found(model)
    assert [bool(level.any()) for level in levels.values()] == [True, True, True, False, True]


def test_levels_are_inserted_again_from_plain_values_and_saved(tmp_path):
    model = detector()
    foveate.insert(model, "cbam", at="head", example=IMAGES, reduction=4)
    foveate.insert(model, "se", at="block", example=IMAGES, reduction=4)
    twin = detector()
    reinsert(twin, insertions(model))
    twin.load_state_dict(model.state_dict())
    assert same(found(model), found(twin))
    again = foveate.load(foveate.save(model, tmp_path / "detector.safetensors"))
    assert same(found(model), found(again.eval()))


def test_levels_are_named_and_chosen_by_their_keys():
    model = detector()
    assert [site.name for site in foveate.sites(model, IMAGES, "backbone:p*")] == LEVELS[3:]
    with pytest.raises(LookupError, match="matches none of the maps that are given to prediction heads: backbone:0, "):
        foveate.sites(model, IMAGES, "backbone:p9")
    with pytest.raises(ValueError, match="called 5 times in one forward pass.*at='head' puts one before it for each"):
        foveate.sites(model, IMAGES, "head.classification_head.cls_logits")
    foveate.insert(model, "se", at="backbone:0", example=IMAGES, reduction=4)
    with pytest.raises(ValueError, match="already carries attention"):
        foveate.insert(model, "se", at="backbone:0", example=IMAGES, reduction=4)
    foveate.insert(model, "se", at="backbone:1", example=IMAGES, reduction=4)
    assert [name for name, _ in foveate.inserted(model)] == LEVELS[:2]


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("ssdlite320_mobilenet_v3_large", {"size": 64}, 6),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", {"size": 64}, 3),
        pytest.param("ssd300_vgg16", {}, 6, marks=pytest.mark.slow),
        pytest.param("maskrcnn_resnet50_fpn", {"size": 96}, 5, marks=pytest.mark.slow),
        pytest.param("retinanet_resnet50_fpn", {"size": 96}, 5, marks=pytest.mark.slow),
    ],
)
def test_the_maps_before_the_heads_of_each_detector_are_found_and_their_attention_trains(name, options, levels):
    model = build_network(f"torchvision:{name}", num_classes=4, **options)
    report = foveate.insert(model, "cbam", at="head", example=IMAGES, init="identity", reduction=4)
    assert [placement.site.attached_to for placement in report] == ["backbone"] * levels
    target = {"boxes": torch.tensor([[8.0, 8, 56, 40]]), "labels": torch.tensor([1]), "masks": torch.ones(1, 64, 64)}
    losses = model.train()(IMAGES[0][:1] * 2, [target] * 2)
    sum(losses.values()).backward()
    strengths = [module.strength.grad for _, module in foveate.inserted(model)]
    assert any(strength.abs() > 0 for strength in strengths)


def test_a_network_without_heads_says_so_and_one_that_declares_their_inputs_is_believed():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(LookupError, match="no head sites: no module of this network returns several maps together"):
        foveate.insert(plain, "se", at="head", example=x)
    plain.head_inputs = "0"
    assert [(site.name, site.kind) for site in foveate.sites(plain, x, "head")] == [("0", "head")]

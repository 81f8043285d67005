"""Detectors by name: torchvision's own outputs, any backbone, refused sizes, transformers' in the same form."""

import pytest
import torch
import torchvision
from torchvision.ops import FrozenBatchNorm2d

from foveate.networks import build_network, example_input, is_detector, usual_classes, usual_shape
from foveate.networks._set_detectors import DETECTORS
from foveate.official import start_encoder

IMAGES = [torch.rand(3, 100, 128), torch.rand(3, 128, 96)]
SMALL = {"size": 64, "backbone": "timm:test_resnet", "channels": 32}
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 60, 70]]), "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def build(name, **options):
    return build_network(name, num_classes=4, **options)


def test_a_detector_by_name_gives_torchvisions_own_outputs_bit_for_bit():
    torch.manual_seed(0)
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(num_classes=4, weights_backbone=None).eval()
    torch.manual_seed(0)
    ours = build("torchvision:ssdlite320_mobilenet_v3_large").eval()
    with torch.no_grad():
        for a, b in zip(theirs(IMAGES), ours(IMAGES), strict=True):
            assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("fcos_resnet50_fpn", SMALL | {"strides": [4, 8]}, 4),
        ("retinanet_resnet50_fpn", SMALL | {"anchor_sizes": [8, 16, 32, 64, 128]}, 5),
        ("fasterrcnn_resnet50_fpn", SMALL, 5),
        ("maskrcnn_resnet50_fpn", SMALL, 5),
        ("ssd300_vgg16", {"size": 64, "backbone": "timm:test_resnet"}, 6),
        ("ssdlite320_mobilenet_v3_large", {"size": 64, "top_down": 32}, 6),
    ],
)
def test_detectors_take_any_backbone_and_size_and_learn_from_images_without_boxes(name, options, levels):
    model = build(f"torchvision:{name}", **options)
    assert is_detector(model)
    seen = []
    model.backbone.register_forward_hook(lambda _, x, maps: seen.append([tuple(m.shape[1:]) for m in maps.values()]))
    masks = [
        {**one, "masks": torch.ones(len(one["boxes"]), *x.shape[1:], dtype=torch.uint8)}
        for one, x in zip(TARGETS, IMAGES, strict=True)
    ]
    for targets in (
        masks,
        [masks[1], {**masks[1], "masks": torch.zeros(0, *IMAGES[0].shape[1:], dtype=torch.uint8)}][::-1],
    ):
        losses = model.train()(IMAGES, targets)
        assert all(torch.isfinite(loss) for loss in losses.values())
    assert {len(maps) for maps in seen} == {levels}
    if "top_down" in options or "channels" in options:
        assert {shape[0] for shape in seen[0]} == {32}
    with torch.no_grad():
        assert set(model.eval()(IMAGES)[0]) >= {"boxes", "labels", "scores"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchvision:fcos_resnet50_fpn", {"min_sise": 64}, "has no option 'min_sise'; did you mean 'min_size'"),
        pytest.param(
            *("torchvision:ssd300_vgg16", {"size": 64}, "an image of 64×64 is too small for its layers"),
            marks=pytest.mark.slow,
        ),
        ("torchvision:ssd300_vgg16", {"size": 50, "backbone": "timm:test_resnet"}, "wanted a multiple of 32.*got 50"),
        ("torchvision:fcos_resnet50_fpn", SMALL | {"channels": 16}, "channels: wanted a multiple of 32.*got 16"),
        ("torchvision:fcos_resnet50_fpn", {"channels": 32}, "channels goes with backbone = a name"),
        ("torchvision:fcos_resnet50_fpn", {"anchor_sizes": [8]}, "its anchors follow the image size or the strides"),
        ("torchvision:fcos_resnet50_fpn", SMALL | {"strides": [5]}, "strides: wanted some of 4, 8, 16 and 32"),
        ("torchvision:retinanet_resnet50_fpn", {"top_down": 8}, "a pyramid is there already"),
        ("torchvision:fcos_resnet50_fpn", SMALL | {"frozen_stages": 9}, "frozen_stages: wanted 0 to 4"),
    ],
)
def test_what_a_detector_does_not_take_is_refused_in_words(name, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(name, **options)


def test_stages_and_norms_of_the_backbone_are_frozen_and_the_rest_is_trained():
    model = build("torchvision:fcos_resnet50_fpn", **SMALL, frozen_stages=2, frozen_norms=True)
    still = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert still
    assert all(name.startswith("backbone.encoder.network.") for name in still)
    assert any(".layer2." in name for name in still)
    assert not any(".layer3." in name for name in still)
    assert sum(isinstance(m, FrozenBatchNorm2d) for m in model.backbone.modules()) > 10
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.backbone.modules())
    assert all(p.requires_grad for p in model.head.parameters())


def test_a_detector_starts_from_the_weights_of_its_backbone_alone(tmp_path):
    classifier = build_network("timm:test_resnet", num_classes=7)
    torch.save(classifier.state_dict(), tmp_path / "backbone.pth")
    model = build("torchvision:fcos_resnet50_fpn", **SMALL)
    started = start_encoder(model, tmp_path / "backbone.pth")
    assert torch.equal(model.backbone.encoder.network.conv1[0].weight, classifier.conv1[0].weight)
    assert started.fresh
    assert all(not name.startswith("backbone.encoder.") for name in started.fresh)


def test_a_detector_in_a_file_of_ones_own_is_shown_images_in_a_list(tmp_path):
    (tmp_path / "my.py").write_text(
        "from torchvision.models.detection import ssdlite320_mobilenet_v3_large\n"
        "def build(num_classes):\n"
        "    return ssdlite320_mobilenet_v3_large(num_classes=num_classes, weights_backbone=None)\n"
    )
    images, targets = example_input(f"{tmp_path}/my.py:build", (3, 64, 64), batch_size=2, targets=True)
    assert [tuple(image.shape) for image in images] == [(3, 64, 64)] * 2
    assert set(targets[0]) == {"boxes", "labels"}
    assert (usual_shape("hf:rt_detr_v2"), usual_classes("hf:rt_detr_v2")) == ((3, 640, 640), 91)


def test_sizes_and_backbones_that_a_detector_of_transformers_refuses_are_named():
    pytest.importorskip("transformers", reason="needs transformers: pip install 'foveate[peers]'")
    with pytest.raises(ValueError, match="size: wanted a multiple of 32; got 100"):
        build("hf:rt_detr_v2", size=100, backbone="timm:test_resnet", decoder_layers=1)
    with pytest.raises(ValueError, match="96×96 has 189 positions, fewer than its 300 queries"):
        build("hf:rt_detr_v2", size=96, backbone="timm:test_resnet")
    with pytest.raises(ValueError, match="has a backbone of its own"):
        build("hf:rf_detr", backbone="timm:test_resnet")
    with pytest.raises(TypeError, match="has no option 'num_querys'; did you mean 'num_queries'"):
        build("hf:d_fine", num_querys=3)
    with pytest.raises(LookupError, match="timm has no model 'resnet81'; did you mean 'resnet18'"):
        build("hf:d_fine", backbone="timm:resnet81")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(DETECTORS))
def test_detectors_of_transformers_take_and_give_what_torchvisions_do(name, tmp_path):
    pytest.importorskip("transformers", reason="needs transformers: pip install 'foveate[peers]'")
    import foveate

    options = {"size": 224 if name == "rf_detr" else 128, "num_queries": 20}
    options |= {} if name == "rf_detr" else {"backbone": "timm:resnet10t"}
    model = build(f"hf:{name}", **options)
    foveate.insert(model, "se", at="head", example=(IMAGES,), init="identity")
    losses = model.train()(IMAGES, TARGETS)
    losses["loss"].backward()
    assert any(m.strength.grad.abs() > 0 for _, m in foveate.inserted(model))
    assert torch.isfinite(model(IMAGES, [TARGETS[1]] * 2)["loss"]), "no box in the whole batch"
    foveate.remove(model)
    with torch.no_grad():
        given = model.eval()(IMAGES)
    for one, image in zip(given, IMAGES, strict=True):
        assert one["boxes"].shape == (len(one["scores"]), 4)
        assert one["boxes"][:, 2].max() <= image.shape[2]
        assert 1 <= one["labels"].min() <= one["labels"].max() <= 3
        assert one["scores"].diff().max() <= 0
    model.network.save_pretrained(tmp_path)
    again = build(f"hf:{name}", **options, weights=tmp_path).eval()
    with torch.no_grad():
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(given, again(IMAGES), strict=True))

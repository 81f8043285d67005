"""Maps of layers: equal to the grad-cam package; layers found by themselves; what cannot be explained says why."""

import copy

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate.explain import ALL_METHODS, explain, explain_batch, find_layers, list_layers
from foveate.explain.cams import METHODS

IMAGE = torch.linspace(-1, 1, 3 * 64 * 64).sin().reshape(3, 64, 64)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=5)


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=5)


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(2, 2), num_classes=5)


def oracle(method: str) -> type:
    package = pytest.importorskip("pytorch_grad_cam")
    names = {
        "gradcam": "GradCAM",
        "gradcam++": "GradCAMPlusPlus",
        "hirescam": "HiResCAM",
        "layercam": "LayerCAM",
        "eigencam": "EigenCAM",
    }
    return getattr(package, names[method])


def of_oracle(method, model, layers, image, target, reshape=None):
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(model)  # it leaves gradients behind
    found = oracle(method)(model, [model.get_submodule(layer) for layer in layers], reshape)
    if method == "eigencam":  # whose sign is that of the linear algebra library there
        from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

        found.get_cam_image = lambda *args: get_2d_projection_with_sign_correction(args[3])
    return found(image[None], [ClassifierOutputTarget(target)])[0]


@pytest.mark.parametrize("method", METHODS)
def test_maps_of_a_cnn_equal_the_oracle(resnet, method):
    for layers in (["layer4"], ["layer2", "layer3.1"]):
        wanted = of_oracle(method, resnet, layers, IMAGE, 3)
        found = explain(resnet, IMAGE, 3, method, layers=layers)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert found.about.layers == tuple(layers)


@pytest.mark.parametrize("method", METHODS)
def test_maps_of_transformers_equal_the_oracle(vit, swin, method):
    def of_vit(x):
        return x[:, 1:].mT.unflatten(2, (4, 4))

    wanted = of_oracle(method, vit, ["blocks.2.norm1"], IMAGE, 1, of_vit)
    found = explain(vit, IMAGE, 1, method)
    assert found.about.layers == ("blocks.2.norm1",)  # the last tokens that the class token still reads
    np.testing.assert_allclose(found, wanted, atol=1e-5)

    wanted = of_oracle(method, swin, ["norm"], IMAGE, 1, lambda x: x.movedim(-1, 1))
    found = explain(swin, IMAGE, 1, method)
    assert found.about.layers == ("norm",)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_roll_out_of_a_vit_is_the_product_of_its_layers(vit):
    for block in vit.blocks:
        block.attn.fused_attn = False
    kept = []
    hooks = [b.attn.attn_drop.register_forward_hook(lambda _, x, y: kept.append(x[0].detach())) for b in vit.blocks]
    with torch.no_grad():
        vit.eval()(IMAGE[None])
    for hook in hooks:
        hook.remove()
    product = torch.eye(17)
    for weights in kept:
        product = (weights[0].mean(0) + torch.eye(17)) / 2 @ product
    from foveate.explain.rollout import roll_out

    for fused in (False, True):
        for block in vit.blocks:
            block.attn.fused_attn = fused
        found, names, _ = roll_out(vit, IMAGE[None])
        torch.testing.assert_close(found[0], product[0, 1:].reshape(4, 4), atol=1e-6, rtol=1e-5)
        assert names == tuple(f"blocks.{i}.attn" for i in range(3))
    read = explain(vit, IMAGE, method="classtoken", gates=False)
    small = kept[-1][0].mean(0)[0, 1:].reshape(1, 1, 4, 4)
    large = torch.nn.functional.interpolate(small, (64, 64), mode="bilinear")[0, 0]
    np.testing.assert_allclose(read, (large - large.min()) / (large.max() - large.min()), atol=1e-4)


def test_roll_out_of_windows_and_pooled_keys_keeps_its_sum(swin):
    from foveate.explain.rollout import attention_rows, roll_out

    found, names, _ = roll_out(swin, IMAGE[None])
    assert found.shape == (1, 16, 16)
    assert found.sum().item() == pytest.approx(1, abs=1e-4)
    assert names[0] == "layers.0.blocks.0.attn"
    segformer = foveate.create_network("segformer_mit_b0", num_classes=3)
    found, names, _ = roll_out(segformer, IMAGE[None])
    assert found.shape == (1, 16, 16)
    assert found.sum().item() == pytest.approx(1, abs=1e-4)
    rows = attention_rows(swin, IMAGE[None], (0.99, 0.01))
    assert rows["layers.0.blocks.0.attn"].shape == (16, 16)
    assert rows["layers.0.blocks.0.attn"][12:, :4].sum() == pytest.approx(1, abs=1e-4)  # its own window
    shifted = rows["layers.0.blocks.1.attn"]
    assert shifted.sum() == pytest.approx(1, abs=1e-4)
    assert shifted[14:, :2].sum() == pytest.approx(1, abs=1e-3)  # the mask parts what the shift brought together


def test_roll_out_of_a_cnn_is_an_error(resnet):
    resnet = copy.deepcopy(resnet)
    foveate.insert(resnet, "nl", at="layer3.1.bn2", example=IMAGE[None])  # which is no layer of its own
    with pytest.raises(ValueError, match="no attention between tokens"):
        explain(resnet, IMAGE, method="rollout")


@pytest.mark.parametrize(
    ("name", "layer"),
    [("torchvision:mobilenet_v2", "features"), ("torchvision:densenet121", "features"), ("foveate:resnet8", "layer3")],
)
def test_the_last_map_of_a_classifier_is_found(name, layer):
    model = foveate.build_network(name, num_classes=4)
    assert [one.name for one in find_layers(model, IMAGE[None])] == [layer]


def test_segmentation_regression_and_detection_are_explained():
    unet = foveate.create_network("unet", num_classes=3)
    found = explain(unet, IMAGE, 1)
    assert found.shape == (64, 64)
    assert found.about.target == 1
    smallest = min(np.prod(one.shape) for one in list_layers(unet, IMAGE[None]))
    assert np.prod(find_layers(unet, IMAGE[None])[0].shape) == smallest

    values = torchvision.models.resnet18(num_classes=2)
    assert explain(values, IMAGE, 1).about.target == 1

    detector = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, score_thresh=0.0, detections_per_img=5
    )
    found = explain(detector, IMAGE.sigmoid())
    assert found.shape == (64, 64)
    assert found.max() > 0
    assert len(found.about.box) == 4
    with pytest.raises(ValueError, match="no box of class 9"):
        explain(detector, IMAGE.sigmoid(), 9)


def test_the_network_is_left_as_it_was(resnet):
    resnet.train()
    resnet.layer3.eval()
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    explain(resnet, IMAGE)
    assert resnet.training
    assert not resnet.layer3.training
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())
    assert all(parameter.grad is None for parameter in resnet.parameters())
    assert not any(module._forward_hooks for module in resnet.modules())


def test_frozen_networks_and_inference_mode_are_explained_alike(resnet):
    wanted = explain(resnet, IMAGE, 2)
    for parameter in resnet.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        found = explain(resnet, IMAGE.clone(), 2)
    for parameter in resnet.parameters():
        parameter.requires_grad_(True)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_batch_is_explained_as_its_images_are(resnet):
    batch = torch.stack([IMAGE, IMAGE.flip(2)])
    found, about = explain_batch(resnet, batch, [0, 4])
    for number, target in enumerate((0, 4)):
        np.testing.assert_allclose(found.maps[number], explain(resnet, batch[number], target), atol=1e-5)
    assert about.targets.tolist() == [0, 4]


def test_clips_have_a_map_for_each_frame():
    clip = torch.randn(3, 4, 32, 32)
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert explain(model, clip[None]).shape == (4, 32, 32)

    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 2)

        def forward(self, x):
            each = self.conv(x.transpose(1, 2).flatten(0, 1)).mean((2, 3))
            return self.head(each).unflatten(0, (len(x), -1)).mean(1)

    frames = Frames()
    assert [one.name for one in find_layers(frames, clip[None])] == ["conv"]
    found = explain(frames, clip[None], 0)
    assert found.shape == (4, 32, 32)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_what_cannot_be_explained_says_why(resnet):
    with pytest.raises(LookupError, match=r"no layer is called 'layer5'; did you mean 'layer4'"):
        explain(resnet, IMAGE, layers="layer5")
    with pytest.raises(LookupError, match="'fc' gives no map"):
        explain(resnet, IMAGE, layers="fc")
    with pytest.raises(ValueError, match="no method is called 'gradcan'; did you mean 'gradcam'"):
        explain(resnet, IMAGE, method="gradcan")
    with pytest.raises(ValueError, match="wanted one of the network's 5 outputs, 0 to 4; got 7"):
        explain(resnet, IMAGE, 7)
    with pytest.raises(ValueError, match="preprocessing of a network that was not built by name"):
        explain(resnet, torchvision.transforms.functional.to_pil_image(IMAGE.sigmoid()))
    with pytest.raises(ValueError, match=r"wanted a tensor \(C, H, W\), a file or a PIL image; got list"):
        explain(resnet, [1])

    class WithoutGradient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = resnet

        def forward(self, x):
            with torch.no_grad():
                return self.inner(x)

    with pytest.raises(ValueError, match="no gradient reaches inner.layer4: .* eigencam"):
        explain(WithoutGradient(), IMAGE)
    assert explain(WithoutGradient(), IMAGE, method="eigencam").max() > 0.99
    silent = torchvision.models.resnet18(num_classes=2)
    nn.init.zeros_(silent.fc.weight)
    with pytest.raises(ValueError, match="layer4: the score of output . has no gradient there"):
        explain(silent, IMAGE)
    with pytest.raises(ValueError, match="TorchScript"):
        explain(torch.jit.script(nn.Conv2d(3, 1, 1)), IMAGE)


def test_the_package_can_be_called():
    import foveate.explain as package

    assert callable(foveate.explain)
    assert foveate.explain is package
    assert set(ALL_METHODS) == {*METHODS, "rollout", "classtoken"}

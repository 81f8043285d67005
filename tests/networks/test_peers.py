"""Networks of segmentation_models_pytorch and transformers by name, where those are installed."""

import sys
from types import SimpleNamespace

import pytest
import torch

import foveate
from foveate.costs import macs
from foveate.data import open_data
from foveate.networks import build_network
from foveate.networks._peers import PixelLogits
from foveate.study.plan import make_plan
from foveate.study_file import check_study
from foveate.tasks import create_task


@pytest.mark.parametrize(
    ("name", "package"), [("smp:Unet", "segmentation_models_pytorch"), ("hf:detr", "transformers")]
)
def test_a_package_that_is_not_there_is_named(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError, match=rf'{name} needs {package}, which is not installed: pip install "foveate\[peers'
    ):
        build_network(name, num_classes=2)


def test_queries_become_logits_of_pixels():
    classes, masks = torch.randn(2, 5, 4), torch.randn(2, 5, 3, 4)
    found = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    y = PixelLogits(lambda pixel_values: found)(torch.zeros(2, 3, 3, 4))
    weights = classes.softmax(2)
    for n, k, i, j in ((0, 0, 0, 0), (1, 2, 2, 3)):
        share = sum(weights[n, q, k] * masks[n, q, i, j].sigmoid() for q in range(5))
        torch.testing.assert_close(y[n, k, i, j], share.log())
    assert y.shape == (2, 3, 3, 4)  # the last class of a query is "nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segformer", "maskformer", "mask2former", "detr_segmentation", "upernet"])
def test_networks_of_transformers_give_a_logit_for_every_pixel(name):
    pytest.importorskip("transformers", reason="needs transformers: pip install 'foveate[peers]'")
    network = build_network(f"hf:{name}", num_classes=4).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 70, 96)).shape == (1, 4, 70, 96)
    with pytest.raises(TypeError, match=f"hf:{name} has no option 'num_chanels'"):
        build_network(f"hf:{name}", num_classes=4, num_chanels=1)


@pytest.mark.slow
def test_networks_of_smp_are_built_and_their_typos_named():
    pytest.importorskip("segmentation_models_pytorch", reason="needs smp: pip install 'foveate[peers]'")
    with torch.device("meta"):
        network = build_network("smp:Unet", num_classes=4, in_channels=1, encoder_name="resnet18")
        assert network(torch.empty(2, 1, 64, 96)).shape == (2, 4, 64, 96)
        with pytest.raises(LookupError, match="has no network 'Uent'; did you mean 'Unet'"):
            build_network("smp:Uent", num_classes=4)
        with pytest.raises(TypeError, match="has no option 'encoder_nmae'; did you mean 'encoder_name'"):
            build_network("smp:Unet", num_classes=4, encoder_nmae="resnet18")


def test_a_network_that_asks_for_values_is_planned_with_values(tmp_path):
    file = tmp_path / "asking.py"
    file.write_text(
        "import torch\n\nclass Net(torch.nn.Conv2d):\n    def forward(self, x):\n"
        "        return super().forward(x if x.isnan().any() else x + 1)\n\n"
        "def net(num_classes, in_channels=3):\n    return Net(in_channels, num_classes, 3, padding=1)\n"
    )
    spec = {"kind": "embedded", "train_items": 20, "test_items": 10}
    study = check_study({"network": f"{file}:net", "task": "segmentation", "variants": ["none"], "data": spec})
    data = open_data(study.data)
    plan = make_plan(study, data, create_task("segmentation", data))
    assert [arm.label for arm in plan.arms] == ["none"]
    with pytest.raises(RuntimeError, match="meta"):
        build_network(f"{file}:net", num_classes=2).to("meta")(torch.empty(1, 3, 8, 8, device="meta"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["smp:Unet", "smp:FPN", "smp:DeepLabV3Plus", "smp:UPerNet"]
    + [f"hf:{name}" for name in ("segformer", "maskformer", "mask2former", "detr_segmentation", "upernet")],
)
def test_attention_is_inserted_into_a_peer_that_is_counted_saved_and_planned(name, tmp_path):
    pytest.importorskip("transformers", reason="needs transformers: pip install 'foveate[peers]'")
    pytest.importorskip("segmentation_models_pytorch", reason="needs smp: pip install 'foveate[peers]'")
    network, x = build_network(name, num_classes=2).eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        plain = network(x)
        foveate.insert(network, "eca", at="block", example=x, init="identity")
        torch.testing.assert_close(network(x), plain, rtol=1e-4, atol=1e-5)
        assert macs(network, x) > 1e7
        foveate.save(network, tmp_path / "a.safetensors")
        torch.testing.assert_close(foveate.load(tmp_path / "a.safetensors").eval()(x), network(x))
    spec = {"kind": "embedded", "train_items": 20, "test_items": 10}
    study = {"network": name, "task": "segmentation", "variants": ["eca"], "control": "none", "data": spec}
    data = open_data(check_study(study).data)
    plan = make_plan(check_study(study), data, create_task("segmentation", data))
    assert [arm.label for arm in plan.arms] == ["none", "eca"]

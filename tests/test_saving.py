"""Networks with attention in one file: the same again, and nothing but known names from a file of anybody's."""

import json
from dataclasses import fields

import pytest
import safetensors
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate.insertion import Site, inserted
from foveate.networks import build_network
from foveate.saving import SitePart, describe
from foveate.spec import DataSpec, Run, Training, Variant
from foveate.study.build import build_variant

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def wake(model):
    """Weights that no constructor gives."""
    for index, tensor in enumerate([*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]):
        tensor.data.add_(0.01 * (index % 7))
    return model


def outputs(model, x=X):
    with torch.no_grad():
        return model(x)


CASES = {
    "ours, blended": ("foveate:resnet8", {}, "se", "block", "identity"),
    "ours, options": ("foveate:resnet8", {"shortcut": "projection"}, "nl", "stage", "paper"),
    "timm": ("timm:resnet10t", {}, "cbam", "block", "paper"),
    "timm, tokens": ("timm:vit_tiny_patch16_224", {"img_size": 32, "depth": 2}, "se", "block", "identity"),
    "torchvision": ("torchvision:mobilenet_v3_small", {}, "eca", "block", "identity"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_gives_the_network_again(case, tmp_path):
    name, options, attention, at, init = CASES[case]
    model = wake(build_network(name, num_classes=4, **options)).eval()
    foveate.insert(model, attention, at=at, example=X, init=init, seed=0)
    for module in dict(inserted(model)).values():
        if hasattr(module, "strength"):
            module.strength.data.fill_(0.6)
    next(iter(model.children())).train()
    random = torch.get_rng_state()
    path = foveate.save(model, tmp_path / "net.safetensors", about={"licence": "CC0", "accuracy": "0.9"})
    again = foveate.load(path)
    assert torch.equal(random, torch.get_rng_state())
    assert list(again.state_dict()) == list(model.state_dict())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
    assert [(n, m.training) for n, m in again.named_modules()] == [(n, m.training) for n, m in model.named_modules()]
    assert torch.equal(outputs(again.eval()), outputs(model.eval()))
    assert list(dict(inserted(again))) == list(dict(inserted(model)))
    assert describe(path).about == {"licence": "CC0", "accuracy": "0.9"}
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    second = foveate.save(again, tmp_path / "again.safetensors", about={"licence": "CC0", "accuracy": "0.9"})
    assert torch.equal(outputs(foveate.load(second).eval()), outputs(model.eval()))
    foveate.remove(again)
    assert not inserted(again)


def test_dtype_and_a_widened_control(tmp_path):
    run = Run(network="foveate:resnet8", width=1.25, variant=Variant(), data=DataSpec(), train=Training(), seed=0)
    model = build_variant(run, num_classes=4, in_channels=X.shape[1], example=X).double()
    again = foveate.load(foveate.save(model, tmp_path / "wide.safetensors"))
    assert again.fc.weight.dtype == torch.float64
    assert torch.equal(outputs(again.eval(), X.double()), outputs(model.eval(), X.double()))


def test_a_replacement_of_a_convolution_is_saved_too(tmp_path):
    model = build_network("foveate:resnet8", num_classes=4).eval()
    foveate.insert(model, "sk", at="layer1.0.conv1", example=X, replace=True, seed=0)
    again = foveate.load(foveate.save(model, tmp_path / "sk.safetensors"))
    assert torch.equal(outputs(again), outputs(model))


def test_a_network_built_elsewhere_needs_its_name(tmp_path):
    model = timm.create_model("resnet10t", num_classes=4).eval()
    with pytest.raises(ValueError, match="not known how this ResNet was built; say so with network='timm:"):
        foveate.save(model, tmp_path / "a")
    with pytest.raises(ValueError, match="goes with num_classes"):
        foveate.save(model, tmp_path / "a", network="timm:resnet10t")
    with pytest.raises(ValueError, match=r"not timm:resnet10t as built: fc.weight: wanted the shape \(5, 512\)"):
        foveate.save(model, tmp_path / "a", network="timm:resnet10t", num_classes=5)
    with pytest.raises(ValueError, match="option 'checkpoint_path' of the network would open other files"):
        foveate.save(model, tmp_path / "a", network="timm:resnet10t", num_classes=4, options={"checkpoint_path": "x"})
    assert list(tmp_path.iterdir()) == []
    path = foveate.save(model, tmp_path / "a", network="timm:resnet10t", num_classes=4)
    assert torch.equal(outputs(foveate.load(path)), outputs(model))


def test_a_network_of_a_file_needs_a_builder(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef net(num_classes):\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), "
        "torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, num_classes))\n"
    )
    model = build_network(f"{tmp_path}/mine.py:net", num_classes=4).eval()
    foveate.insert(model, "se", at="0", example=X, reduction=4, seed=0)
    path = foveate.save(model, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"mine.py:net, code that a file may not run; pass builder="):
        foveate.load(path)
    again = foveate.load(path, builder=lambda: build_network(f"{tmp_path}/mine.py:net", num_classes=4))
    assert torch.equal(outputs(again), outputs(model))


class Nameless(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x


def test_attention_without_a_name_is_refused(tmp_path):
    model = build_network("foveate:resnet8", num_classes=4)
    foveate.insert(model, Nameless, example=X)
    with pytest.raises(
        ValueError, match="Nameless has no name that a recipe could give; put @foveate.register_attention"
    ):
        foveate.save(model, tmp_path / "a")


def test_the_recipe_knows_every_field_of_a_site():
    assert [f.name for f in fields(Site)] == list(SitePart.model_fields)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    model = build_network("foveate:resnet8", num_classes=4).eval()
    foveate.insert(model, "se", example=X, seed=0)
    path = foveate.save(model, tmp_path_factory.mktemp("honest") / "a.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["recipe"]), safetensors.torch.load_file(path)


def change(recipe, where, value):
    *path, last = where
    for key in path:
        recipe = recipe[key]
    recipe[last] = value


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["version"], 2, "version"),
        (["code"], "import os", "code: Extra inputs are not permitted"),
        (["network", "name"], "/tmp/evil.py:net", "code that a file may not run"),
        (["network", "name"], "hub:evil", "wanted foveate:NAME, timm:NAME"),
        (["network", "name"], "timm:hf-hub:evil/net", "wanted foveate:NAME"),
        (["network", "name"], "timm:resnet5O", "did you mean 'resnet50"),
        (["network", "num_classes"], 10**9, "num_classes"),
        (["network", "num_classes"], 5, r"fc.bias: wanted the shape \(5,\), got \(4,\)"),
        (["network", "options"], {"pretrained": True}, "'pretrained' of the network would open other files"),
        (["network", "options"], {"weights_backbone": "x"}, "would open other files"),
        (["network", "options"], {"encoder_options": {"pretrained_cfg": "x"}}, "would open other files"),
        (["network", "options"], {"widths": [10**9]}, "wanted numbers, words or lists"),
        (["network", "options"], {"depth": 8}, "depth"),
        (["network", "options"], {"a": {"b": 1}}, "option 'a': wanted numbers, words or lists"),
        (["insertions", 0, "attention"], "see", "did you mean 'se"),
        (["insertions", 0, "attention"], "os.system", "no attention is called 'os.system'"),
        (["insertions", 0, "options"], {"reductoin": 4}, "did you mean 'reduction'"),
        (["insertions", 0, "site", "channels"], 10**7, "channels"),
        (["insertions", 0, "site", "channels"], 32, "wanted the shape"),
        (["insertions", 0, "site", "side"], "around", "side"),
        (["insertions", 0, "site", "layout"], "NLC+99999", "layout"),
        (["insertions", 0, "site", "attached_to"], "layer9", "no module 'layer9'"),
        (["insertions", 0, "extra"], 1, "Extra inputs are not permitted"),
        (["insertions"], [], "is surplus"),
        (["other_mode"], ["x" * 501], "other_mode"),
        (["about"], {"a": 1}, "about.a"),
    ],
)
def test_a_file_of_anybodys_builds_known_names_only(honest, tmp_path, where, value, message):
    recipe, tensors = json.loads(json.dumps(honest[0])), honest[1]
    change(recipe, where, value)
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(tensors, path, {"format": "foveate-network", "recipe": json.dumps(recipe)})
    with pytest.raises(ValueError, match=message) as error:
        foveate.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_files_are_refused(honest, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        foveate.load(path)
    for text in (b"", b"abc", b"\xff" * 20, b"\x10" + b"\0" * 7 + b"{"):
        path.write_bytes(text)
        with pytest.raises(ValueError, match="no file that foveate.save wrote"):
            foveate.load(path)
    safetensors.torch.save_file(honest[1], path)
    with pytest.raises(ValueError, match="holds weights without a recipe"):
        foveate.load(path)
    for recipe, message in (
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (" " * 5_000_000, "at most 4,000,000"),
    ):
        safetensors.torch.save_file(honest[1], path, {"format": "foveate-network", "recipe": recipe})
        with pytest.raises(ValueError, match=message):
            foveate.load(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    model = foveate.create_network("resnet8", num_classes=4)
    with pytest.raises(ValueError, match="cannot be written"):
        foveate.save(model, tmp_path / "nowhere" / "a.safetensors")
    model.fc.weight = nn.Parameter(torch.randn(3, 64))
    path = foveate.save(foveate.create_network("resnet8", num_classes=4), tmp_path / "a.safetensors")
    kept = path.read_bytes()
    with pytest.raises(ValueError, match="not foveate:resnet8 as built"):
        foveate.save(model, path)
    assert path.read_bytes() == kept
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(ValueError, match="folder: cannot be written"):
        foveate.save(foveate.load(path), tmp_path / "folder")
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "folder"}, "nothing half written"


def test_torchvision_by_name(tmp_path):
    model = torchvision.models.squeezenet1_1(num_classes=3).eval()
    path = foveate.save(model, tmp_path / "a", network="torchvision:squeezenet1_1", num_classes=3)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(outputs(foveate.load(path), x), outputs(model, x))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch.jit
def test_of_a_compiled_or_data_parallel_network_the_network_in_it_is_saved(tmp_path):
    model = wake(foveate.create_network("resnet8", num_classes=4)).eval()
    foveate.insert(model, "se", example=X)
    for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model)):
        again = foveate.load(foveate.save(wrapped, tmp_path / "net.safetensors"))
        assert type(again) is type(model)
        assert torch.equal(outputs(again), outputs(model))
    with pytest.raises(ValueError, match="wanted the network that the TorchScript module was made from"):
        foveate.save(torch.jit.trace(foveate.create_network("resnet8").eval(), X), tmp_path / "net.safetensors")
    with torch.inference_mode():
        assert not any(p.is_inference() for p in foveate.load(tmp_path / "net.safetensors").parameters())

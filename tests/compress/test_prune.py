"""Structured pruning: networks and attention survive it, and compute what a narrower network computes."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import foveate
from foveate.compress import prune

tp = pytest.importorskip("torch_pruning")
OPTIONS = {
    "sge": {"groups": 4},
    "sra": {"heads": 2},
    "iastp": {"size": (4, 4)},
    "sk": {"groups": 4},
    "sa": {"groups": 4},
}
IMAGES = [name for name in foveate.list_attention() if name not in {"attention_gate", "temporal", "cbam_temporal"}]
FOLLOWING = [name for name in IMAGES if name != "sa"]  # which shuffles channels
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block = Block(width)
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        return self.fc(self.block(self.stem(x)).mean((2, 3)))


def residual(width, attention, init="paper"):
    torch.manual_seed(0)
    model = Residual(width)
    foveate.insert(model, attention, at="block", example=X, init=init, **OPTIONS.get(attention, {}))
    for value in model.parameters():
        value.data.add_(0.1 * torch.randn_like(value))
    return model.eval()


def parameters(model):
    return sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("attention", FOLLOWING)
def test_half_the_width_computes_what_a_network_built_at_that_width_computes(attention):
    whole = residual(32, attention)
    before = whole(X)
    pruned = prune(whole, X, 0.5)
    assert torch.equal(whole(X), before), "the network given is as it was"
    narrow = residual(16, attention)
    narrow.load_state_dict(pruned.state_dict(), strict=True)
    torch.testing.assert_close(narrow(X), pruned(X))
    pruned.train()(X).square().sum().backward()


@pytest.mark.parametrize("attention", ["se", "cbam", "bam", "eca", "ca", "gc", "sge"])
def test_attention_survives_torch_pruning_itself(attention):
    model = residual(32, attention)
    model.requires_grad_(True)
    importance = tp.importance.MagnitudeImportance(p=2)
    before = parameters(model)
    tp.pruner.BasePruner(
        model, X, importance=importance, pruning_ratio=0.5, ignored_layers=[model.fc], in_channel_groups={},
        out_channel_groups={},
    ).step()  # fmt: skip
    assert model(X).shape == (2, 5)
    assert parameters(model) < before


def test_what_shuffles_channels_keeps_its_width():
    pruned = prune(residual(32, "sa"), X, 0.5)
    assert pruned.block.conv2.weight.shape[:2] == (32, 16)


def test_a_blend_is_pruned_and_saved_and_computes_the_same_again(tmp_path):
    model = foveate.create_network("resnet8", num_classes=4, shortcut="projection")
    foveate.insert(model, "se", at="block", example=X, init="identity")
    pruned = prune(model, X, 0.5).eval()
    again = foveate.load(foveate.save(pruned, tmp_path / "half.safetensors"))
    assert torch.equal(again(X), pruned(X))
    assert parameters(again) == parameters(pruned) < parameters(model) / 3


@pytest.mark.parametrize(
    "name",
    ["resnet8", "preact_resnet20", "drsn_cw_1d_6", "stn_resnet20", "unet_small", "mscan_t", "segformer_mit_b0"],
)
def test_our_networks_are_pruned_and_run(name):
    model = foveate.create_network(name, num_classes=4).eval()
    shape = foveate.networks.usual_shape(name)
    x = torch.randn(2, *(min(size, 64) for size in shape)) if len(shape) == 3 else torch.randn(2, *shape)
    pruned = prune(model, x, 0.5)
    assert pruned(x).shape == model(x).shape
    assert parameters(pruned) < 0.7 * parameters(model)


def test_outputs_that_are_given_in_training_alone_fit_the_pruned_network():
    model = foveate.create_network("unet", num_classes=4, widths=[8, 16, 16], deep_supervision=True)
    x = torch.randn(2, 3, 32, 32)
    pruned = prune(model, x, 0.5).train()
    given = pruned(x)
    assert len(given) > 1
    assert [one.shape for one in given] == [one.shape for one in model.train()(x)]
    sum(one.sum() for one in given).backward()


def test_what_cannot_be_followed_is_refused_in_one_line():
    x = torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"^prune: .*\Z") as error:
        prune(foveate.create_network("shufflenet_v2", num_classes=4), x, 0.5)
    assert "\n" not in str(error.value)


class Shuffling(Residual):
    def forward(self, x):
        y = self.stem(x)
        y = y.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)
        return self.fc(self.block(y).mean((2, 3)))


def test_a_network_that_would_compute_something_else_is_refused():
    with pytest.raises(ValueError, match="without some it computes something else"):
        prune(Shuffling(16).eval(), X, 0.5)


@pytest.mark.parametrize(
    ("amount", "importance", "message"),
    [
        (0.0, "magnitude", "above 0 and below 1; got 0.0"),
        (1.0, "magnitude", "above 0 and below 1; got 1.0"),
        (0.5, "magnitud", "importance must be one of 'magnitude', 'random'; got 'magnitud'"),
    ],
)
def test_values_out_of_range_are_refused(amount, importance, message):
    with pytest.raises(ValueError, match=message):
        prune(Residual(16), X, amount, importance=importance)


def test_a_network_of_one_layer_has_nothing_to_lose():
    with pytest.raises(ValueError, match=r"no layer of this network can lose 0.5 of its channels"):
        prune(nn.Conv2d(3, 4, 1), X, 0.5)


def test_the_python_of_the_page_on_compression_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "compression.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/compression.md", "exec"), {})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(ValueError, match=r"pip install 'foveate\[compress\]'"):
        prune(Residual(16), X, 0.5)


def test_a_second_pruning_takes_more():
    once = prune(residual(32, "eca"), X, 0.5)
    twice = prune(copy.deepcopy(once), X, 0.5)
    assert parameters(twice) < parameters(once)
    assert twice(X).shape == (2, 5)

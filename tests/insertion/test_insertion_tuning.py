"""Freezing the network around its attention, thawing it stage by stage, and parameters by origin."""

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from insertion_networks import Gate, HandWritten, lively
from torch import nn

import foveate
from foveate.insertion import insert, inserted, remove

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def frozen(**options):
    model = lively(torchvision.models.resnet18(weights=None, num_classes=7)).train()
    insert(model, Gate, example=X, init="identity", freeze="base", **options)
    return model


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_only_attention_learns_and_statistics_stay():
    model = frozen()
    state = {k: v.clone() for k, v in model.state_dict().items() if ".foveate." not in k}
    assert {n.split(".foveate.")[0] for n in trainable(model)} == {
        f"layer{i}.{j}.bn2" for i in range(1, 5) for j in (0, 1)
    }
    optimiser = torch.optim.SGD(foveate.parameter_groups(model, lr=0.1, weight_decay=1e-4), momentum=0.9)
    model.eval()
    model.train()
    before = {n: p.clone() for n, p in model.named_parameters() if ".foveate." in n}
    for _ in range(2):
        optimiser.zero_grad()
        model(X).square().sum().backward()
        optimiser.step()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before and "norm" not in n)
    assert all(m.norm.num_batches_tracked == 2 for m in (b.attention for b in dict(inserted(model)).values()))


@pytest.mark.parametrize("undo", [remove, foveate.unfreeze])
@pytest.mark.parametrize("mode", [True, False])
def test_undone_it_is_as_if_never_frozen(undo, mode):
    model = lively(torchvision.models.resnet18(weights=None)).train()
    model.layer1.eval()  # frozen by hand before: stays so
    for p in (*model.layer1.parameters(), model.bn1.weight):
        p.requires_grad_(False)
    modes, wanted = [(n, m.training) for n, m in model.named_modules()], trainable(model)
    attributes = [sorted(vars(m)) for m in model.modules()]
    insert(model, Gate, example=X, freeze="base")
    insert(model, Gate, at="stage", example=X, freeze="base")
    if not mode:
        model.eval()
    model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    undo(model)
    remove(model)
    assert trainable(model) == wanted
    assert [(n, m.training and mode) for n, m in model.named_modules()] == [(n, m and mode) for n, m in modes]
    assert [sorted(vars(m)) for m in model.modules()] == attributes


def test_stage_by_stage():
    model = frozen()
    foveate.unfreeze(model, -1)
    assert {n for n in trainable(model) if ".foveate." not in n} == {"fc.weight", "fc.bias"}
    assert not model.layer4[1].bn1.training
    foveate.unfreeze(model, [4, -3])
    parts = {n.split(".")[0] for n in trainable(model) if ".foveate." not in n}
    assert parts == {"fc", "layer4", "layer3"}
    assert [model.layer4[1].bn1.training, model.layer3[0].downsample[1].training] == [True, True]
    assert [model.bn1.training, model.layer2[0].bn1.training] == [False, False]
    foveate.unfreeze(model, 0)
    assert "conv1.weight" in trainable(model)
    foveate.unfreeze(model)
    assert trainable(model) == {n for n, _ in model.named_parameters()}
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("name", ["densenet121", "efficientnet_lite0", "convnext_atto"])
def test_every_module_lies_in_a_stage(name):
    model = timm.create_model(name, num_classes=3)
    insert(model, Gate, example=X, freeze="base")
    assert all(".foveate." in n for n in trainable(model))
    names = [n for n, _ in model.named_parameters() if ".foveate." not in n]
    seen: list[str] = []
    for stage in range(20):
        before = trainable(model)
        try:
            foveate.unfreeze(model, stage)
        except LookupError:
            break
        seen += [n for n in names if n in trainable(model) - before]
    assert sorted(seen) == sorted(names)
    assert seen[0] == names[0]
    assert seen[-1] == names[-1]


def test_bad_input():
    with pytest.raises(ValueError, match="wanted freeze=None or 'base', got 'all'"):
        insert(HandWritten(), Gate, example=X, freeze="all")
    with pytest.raises(LookupError, match="nothing here was frozen"):
        foveate.unfreeze(HandWritten())
    model = frozen()
    with pytest.raises(ValueError, match=r"wanted stages from 0 .* to 5 .*; got 6"):
        foveate.unfreeze(model, [1, 6])
    assert all(".foveate." in n for n in trainable(model))
    with pytest.raises(ValueError, match="wanted lr= 0 or more, got -1"):
        foveate.parameter_groups(model, lr=-1)
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of this model takes gradients"):
        foveate.parameter_groups(model, lr=0.1)


def test_groups_hold_each_parameter_once():
    model = lively(torchvision.models.resnet18(weights=None))
    plain = foveate.parameter_groups(model, lr=0.1, attention_lr=1.0, weight_decay=0.01)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in plain] == [("base", 0.1, 0.01), ("base, norms", 0.1, 0.0)]
    insert(model, Gate, example=X, init="identity")
    model.fc.weight = model.layer4[1].bn2.foveate.attention.weigh.weight  # shared: the network's, and once
    model.conv1.weight.requires_grad_(False)
    groups = foveate.parameter_groups(model, lr=0.1, attention_lr=1.0, weight_decay=0.01, norm_weight_decay=0.001)
    assert {g["name"]: (g["lr"], g["weight_decay"]) for g in groups} == {
        "base": (0.1, 0.01), "base, norms": (0.1, 0.001), "attention": (1.0, 0.01), "attention, norms": (1.0, 0.001),
        "strength": (10.0, 0.001),
    }  # fmt: skip
    given = foveate.parameter_groups(model, lr=0.1, strength_lr=0.3)
    assert [(g["name"], g["lr"]) for g in given if len(g["params"]) == 8] == [("strength", 0.3)]
    found = [id(p) for g in groups for p in g["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in model.parameters()}
    assert any(model.fc.weight is p for p in groups[0]["params"])
    ours = {id(p) for n, p in model.named_parameters() if ".foveate." in n}
    assert {id(p) for g in groups[2:] for p in g["params"]} <= ours
    torch.optim.AdamW(groups)


def test_frozen_networks_compile():
    torch._dynamo.reset()
    model = lively(HandWritten()).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    insert(model, Gate, example=X, freeze="base")
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(X), model(X))


def test_groups_made_before_unfreezing_train_what_is_unfrozen_later():
    model = frozen()
    optimiser = torch.optim.SGD(foveate.parameter_groups(model, lr=0.1, weight_decay=0.1), momentum=0.9)

    def step():
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimiser.zero_grad()
        model(X).square().sum().backward()
        optimiser.step()
        return {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}

    assert "fc.weight" not in step()
    foveate.unfreeze(model, stages=-1)
    changed = step()
    assert {"fc.weight", "fc.bias"} <= changed
    assert not any(n.startswith("layer4") and ".foveate." not in n for n in changed)


@pytest.mark.parametrize("make", [
    lambda groups: torch.optim.SGD(groups, momentum=0.9, foreach=False),
    lambda groups: torch.optim.SGD(groups, momentum=0.9, foreach=True),
    lambda groups: torch.optim.AdamW(groups, foreach=True),
    lambda groups: torch.optim.AdamW(groups, fused=True),
    lambda groups: torch.optim.RMSprop(groups, momentum=0.9),
], ids=["sgd", "sgd foreach", "adamw foreach", "adamw fused", "rmsprop"])  # fmt: skip
def test_an_optimiser_leaves_frozen_parameters_alone(make):
    """Weight decay and momentum included, and where a gradient was left from before the freezing."""
    model = lively(HandWritten()).train()
    model(X).square().sum().backward()
    insert(model, Gate, example=X, freeze="base")
    frozen_ones = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    assert {"stage1.0.norm1.weight", "head.weight"} <= set(frozen_ones)
    groups = foveate.parameter_groups(model, lr=0.1, weight_decay=0.1, norm_weight_decay=0.1)
    optimiser = make(groups)
    for _ in range(2):
        optimiser.zero_grad(set_to_none=False)
        model(X).square().sum().backward()
        optimiser.step()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen_ones.items())


@pytest.mark.parametrize("names", [["fc"], ["fc.weight", "fc.bias"]])
def test_a_fresh_classifier_is_never_frozen(names):
    model = lively(torchvision.models.resnet18(weights=None)).train()
    model.fc = nn.Linear(512, 3)
    assert foveate.insertion.mark_fresh(model, names) is model
    model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    insert(model, Gate, example=X, freeze="base")
    assert {n for n in trainable(model) if ".foveate." not in n} == {"fc.weight", "fc.bias"}
    foveate.unfreeze(model)
    assert trainable(model) == {n for n, _ in model.named_parameters()}


def test_a_norm_in_a_fresh_head_goes_on_measuring():
    model = lively(HandWritten()).train()
    model.head = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 5))
    foveate.insertion.mark_fresh(model, ["head.0.weight", "head.0.running_mean", "head.1"])
    insert(model, Gate, example=X, freeze="base")
    assert {n for n in trainable(model) if ".foveate." not in n} == {"head.0.weight", "head.1.weight", "head.1.bias"}
    assert model.head[0].training
    assert not model.stage1[0].norm1.training
    with pytest.raises(LookupError, match=r"no parameter or module 'haed'; did you mean 'head'"):
        foveate.insertion.mark_fresh(model, ["haed"])


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_without_attention_the_groups_are_decay_for_what_has_two_axes(name):
    """The optimiser sees what a plain training loop gives it: all parameters in order, decay where dim() > 1."""
    model = timm.create_model(name, num_classes=3)
    groups = foveate.parameter_groups(model, lr=0.1, weight_decay=0.05)
    wide = [p for p in model.parameters() if p.dim() > 1]
    thin = [p for p in model.parameters() if p.dim() <= 1]
    assert [(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups] == [
        (len(wide), 0.1, 0.05),
        (len(thin), 0.1, 0.0),
    ]
    assert all(
        a is b for g, own in zip(groups, (wide, thin), strict=True) for a, b in zip(g["params"], own, strict=True)
    )

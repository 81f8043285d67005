"""What insertion adds, what it leaves alone, and that removal undoes it."""

import copy
import io
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from insertion_networks import Functional, Gate, HandWritten, Plain, X, ZeroGamma, everything, lively, resnet
from torch import nn

from foveate.insertion import Blend, insert, inserted, remove, sites

NETWORKS = {
    "torchvision resnet18": resnet,
    "torchvision resnet50": lambda: lively(torchvision.models.resnet50(weights=None, num_classes=7)),
    "timm resnet26d": lambda: lively(timm.create_model("resnet26d", num_classes=7)),
    "timm seresnet18": lambda: lively(timm.create_model("seresnet18", num_classes=7)),
    "timm regnety": lambda: lively(timm.create_model("regnety_002", num_classes=7)),
    "timm mobilenetv3": lambda: lively(timm.create_model("mobilenetv3_small_050", num_classes=7)),
    "timm convnext": lambda: lively(timm.create_model("convnext_atto", num_classes=7)),
    "torchvision densenet": lambda: lively(torchvision.models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=7)),
    "torchvision squeezenet": lambda: lively(torchvision.models.squeezenet1_1(num_classes=7)),
    "plus": lambda: lively(HandWritten("plus")),
    "in place": lambda: lively(HandWritten("in place")),
    "torch.add": lambda: lively(HandWritten("torch.add")),
    "functional": lambda: lively(Functional()),
    "plain": lambda: lively(Plain()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_identity_paper_and_removal(name: str) -> None:
    model = NETWORKS[name]()
    plain, state, before = model(X), copy.deepcopy(model.state_dict()), everything(model)
    parameters = [id(p) for p in model.parameters()]
    found = {s.attached_to for s in sites(model, X, "block")}
    stages = [] if name == "functional" else sites(model, X, "stage")
    for kind in ("block", "stage") if stages and not found & {s.attached_to for s in stages} else ("block",):
        report = insert(model, Gate, at=kind, example=X, init="identity")
        assert len(report) == len(sites(model, X, kind))
    assert torch.equal(model(X), plain)
    assert {k for k in model.state_dict() if ".foveate." not in k} == set(state)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    loss = model(X).square().sum()
    loss.backward()
    assert all(module.strength.grad.abs() > 0 for module in dict(inserted(model)).values())  # type: ignore[union-attr]
    assert remove(model) is model
    assert everything(model) == before
    assert [id(p) for p in model.parameters()] == parameters
    assert torch.equal(model(X), plain)
    insert(model, Gate, example=X)
    assert (model(X) - plain).abs().max() > 1e-3 * plain.abs().max()
    remove(model)
    assert list(model.state_dict()) == list(state)
    assert torch.equal(model(X), plain)


def test_the_sum_is_the_hand_written_one() -> None:
    """Attention stands after the last norm and before the add."""
    model = resnet()
    insert(model, "cbam", example=X, at="block", seed=3)
    block, gate = model.layer2[0], dict(inserted(model))["layer2.0.bn2"]
    x = torch.randn(2, 64, 8, 8)
    plain = copy.deepcopy(remove(copy.deepcopy(block)))
    y = plain.bn2(plain.conv2(F.relu(plain.bn1(plain.conv1(x)))))
    assert torch.equal(block(x), F.relu(gate(y) + plain.downsample(x)))


def test_after_a_convolution_its_norm_and_activation() -> None:
    model = lively(torchvision.models.resnet50(weights=None))
    insert(model, "se", example=X, at=[{"position": "after_conv2"}], seed=3)
    block, gate = model.layer2[1], dict(inserted(model))["layer2.1.conv3"]
    x = torch.randn(2, 512, 4, 4)
    plain = remove(copy.deepcopy(block))
    y = F.relu(plain.bn2(plain.conv2(F.relu(plain.bn1(plain.conv1(x))))))
    assert torch.equal(block(x), F.relu(plain.bn3(plain.conv3(gate(y))) + x))


def test_after_a_stage() -> None:
    model = resnet()
    plain = copy.deepcopy(model)
    insert(model, Gate, example=X, at="stage")
    assert list(dict(inserted(model))) == ["layer1", "layer2", "layer3", "layer4"]
    assert {k.split(".foveate.")[0] for k in model.state_dict() if ".foveate." in k} == {
        f"layer{i}.1" for i in range(1, 5)
    }
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(model.layer1(x), dict(inserted(model))["layer1"](plain.layer1(x)))
    assert len(model.layer1) == 2
    assert [n for n, _ in model.layer1.named_children()] == ["0", "1"]
    assert isinstance(model.layer1[1], torchvision.models.resnet.BasicBlock)


def test_a_container_that_concatenates_is_carried_on() -> None:
    """A dense block's output is no child's: the module hangs on the block, whose iteration does not meet it."""
    model = NETWORKS["torchvision densenet"]()
    plain = copy.deepcopy(model)
    insert(model, Gate, example=X, at="stage")
    block = model.features.denseblock1
    assert (len(block), list(block)) == (2, ["denselayer1", "denselayer2"])
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x), block.foveate(plain.features.denseblock1(x)))


def test_the_report() -> None:
    model = resnet()
    report = insert(model, "se", example=X, at="stage", init="identity")
    lines = str(report).splitlines()
    assert lines[0].split() == ["site", "kind", "layout", "channels", "shape", "attention", "start", "parameters"]
    assert lines[2].split() == ["layer1", "(at", "layer1.1)", "stage", "NCHW", "64", "8×8", "se", "blend", "581"]
    added = sum(p.numel() for n, p in model.named_parameters() if ".foveate." in n)
    assert report.parameters == added
    assert lines[-1] == f"4 modules put in, {added:,} parameters"


def test_dry_run_changes_nothing() -> None:
    model, random = resnet(), torch.get_rng_state()
    before = everything(model)
    report = insert(model, "se", example=X, dry_run=True)
    assert (len(report), inserted(model), everything(model) == before) == (8, [], True)
    assert str(report).endswith("8 modules would be put in, 89,080 parameters, 87,040 multiply-adds a sample")
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("name", ["se", "eca", "cbam"])
def test_mechanisms_start_as_the_identity(name: str) -> None:
    model = lively(HandWritten())
    plain = model(X)
    insert(model, name, example=X, init="identity", **({} if name == "eca" else {"reduction": 4}))
    assert torch.equal(model(X), plain)


def test_own_identity_is_believed_only_if_true() -> None:
    model = resnet()
    plain = model(X)
    report = insert(model, ZeroGamma, example=X, init="identity")
    assert {p.start for p in report} == {"identity"}
    assert torch.equal(model(X), plain)
    remove(model)
    report = insert(model, ZeroGamma, example=X, init="identity", gamma=0.5)
    assert {p.start for p in report} == {"blend"}
    assert torch.equal(model(X), plain)
    assert all(isinstance(m, Blend) for m in dict(inserted(model)).values())


def test_seed_and_global_random_state() -> None:
    model, other = resnet(), resnet()
    torch.manual_seed(5)
    random = torch.get_rng_state()
    insert(model, Gate, example=X, seed=1)
    assert torch.equal(random, torch.get_rng_state())
    torch.manual_seed(6)
    insert(other, Gate, example=X, seed=1)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items() if ".foveate." in k)
    torch.manual_seed(5)
    gates = [Gate(c) for c in (64, 64, 128, 128, 256, 256, 512, 512)]
    torch.manual_seed(5)
    insert(remove(model), Gate, example=X)
    assert all(
        torch.equal(a.weigh.weight, b.weigh.weight)
        for a, b in zip(dict(inserted(model)).values(), gates, strict=True)  # type: ignore[union-attr]
    )


def test_dtype_and_mode_follow_the_host() -> None:
    model = resnet().double().train()
    model.layer2.eval()
    for p in model.layer1.parameters():
        p.requires_grad_(False)
    insert(model, Gate, example=X.double(), init="identity")
    new = dict(inserted(model))
    assert {p.dtype for m in new.values() for p in m.parameters()} == {torch.float64}
    assert {name[:6] for name, m in new.items() if m.training} == {"layer1", "layer3", "layer4"}
    assert not any(p.requires_grad for n, p in model.layer1.named_parameters() if "foveate" not in n)
    assert all(p.requires_grad for m in new.values() for p in m.parameters())


def test_statistics_and_modes_are_untouched() -> None:
    model = resnet().train()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    insert(model, Gate, example=X)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert all(m.norm.num_batches_tracked == 0 for m in dict(inserted(model)).values())  # type: ignore[union-attr]
    remove(model)
    assert modes == [m.training for m in model.modules()]


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_a_plain_checkpoint_loads_strictly(init: str) -> None:
    plain = resnet().state_dict()
    model = torchvision.models.resnet18(weights=None, num_classes=7)
    insert(model, Gate, example=X, init=init)
    for candidate in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        ours = {k: v.clone() for k, v in candidate.state_dict().items() if ".foveate." in k}
        result = candidate.load_state_dict(plain, strict=True)
        assert (result.missing_keys, result.unexpected_keys) == ([], [])
        assert all(torch.equal(candidate.state_dict()[k], v) for k, v in {**plain, **ours}.items())
        candidate.load_state_dict(plain, strict=True, assign=True)
        assert all(torch.equal(candidate.state_dict()[k], v) for k, v in ours.items())
        full = candidate.state_dict()
        candidate.load_state_dict(full, strict=True)
        full.pop(next(k for k in full if ".foveate." in k and k.endswith("weigh.weight")))
        with pytest.raises(RuntimeError, match=r"Missing key.*weigh.weight"):
            candidate.load_state_dict(full, strict=True)
        with pytest.raises(RuntimeError, match=r"Missing key.*fc.weight"):
            candidate.load_state_dict({k: v for k, v in plain.items() if k != "fc.weight"}, strict=True)
    wrapper = nn.ModuleDict({"net": model})
    wrapper.load_state_dict({f"net.{k}": v for k, v in plain.items()}, strict=True)
    remove(model)
    model.load_state_dict(plain, strict=True)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict(ours | plain, strict=True)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save", "weights only"])
@pytest.mark.parametrize("at", ["block", "stage", [{"position": "after_conv1"}]])
def test_copies(way: str, at: object) -> None:
    model = lively(HandWritten())
    before = everything(model)
    insert(model, Gate, example=X, at=at, init="identity")
    for m in dict(inserted(model)).values():
        m.strength.data.fill_(0.7)  # type: ignore[union-attr]
    buffer = io.BytesIO()
    if way == "deepcopy":
        twin = copy.deepcopy(model)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    elif way == "torch.save":
        torch.save(model, buffer)
        buffer.seek(0)
        twin = torch.load(buffer, weights_only=False)
    else:
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        twin = HandWritten().eval()
        insert(twin, Gate, example=X, at=at, init="identity")
        twin.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert torch.equal(twin(X), model(X))
    assert list(dict(inserted(twin))) == list(dict(inserted(model)))
    assert not set(map(id, dict(inserted(twin)).values())) & set(map(id, dict(inserted(model)).values()))
    assert everything(remove(twin)) == before
    assert len(inserted(model)) > 0


def test_twice_at_one_place() -> None:
    model = resnet()
    insert(model, "se", example=X)
    before = model(X)
    with pytest.raises(ValueError, match=r"layer1.0.bn2 already carries attention .*remove\(model\) first"):
        insert(model, "eca", example=X)
    assert torch.equal(model(X), before)
    insert(model, "eca", at="stage", example=X)
    assert len(inserted(model)) == 12
    assert sites(model, X) == sites(resnet(), X)
    assert sites(remove(model), X) == sites(resnet(), X)


def test_input_and_output_of_one_module() -> None:
    model = torchvision.models.resnet18(weights=None)
    model.layer1[0].bn2 = nn.Identity()  # the branch now ends in its second convolution
    with pytest.raises(ValueError, match=r"both the input and the output of layer1.0.conv2"):
        insert(model, Gate, at=[{"position": "after_conv1"}, {"position": "after_conv2"}], example=X)

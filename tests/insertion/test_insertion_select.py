"""Every form of at=, and what is said when it cannot be had."""

import pytest
import timm
import torch
import torchvision
from insertion_networks import Attending, Block, Gate, HandWritten
from torch import nn

from foveate.insertion import insert, inserted, sites

META = torch.empty(1, 3, 64, 64, device="meta")


def resnet50() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.resnet50(weights=None)


def placed(at: object, model: nn.Module | None = None) -> list[str]:
    return [p.site.name for p in insert(model or resnet50(), Gate, at=at, example=META)]


def test_globs() -> None:
    assert placed("layer3.*.conv2") == [f"layer3.{i}.conv2" for i in range(6)]
    assert placed(["layer4.*.bn1", "conv1"]) == ["conv1", "layer4.0.bn1", "layer4.1.bn1", "layer4.2.bn1"]
    assert placed("layer[12].0") == ["layer1.0", "layer2.0"]


def test_a_container_and_its_last_child_are_one_place() -> None:
    assert placed(["layer4", "layer4.2"]) == ["layer4.2"]
    report = insert(resnet50(), Gate, at="layer4", example=META)
    assert [(p.site.name, p.site.attached_to) for p in report] == [("layer4", "layer4.2")]


def test_a_predicate() -> None:
    def wide(name: str, module: nn.Module) -> bool:
        return isinstance(module, nn.Conv2d) and module.out_channels == 2048 and "downsample" not in name

    assert placed(wide) == [f"layer4.{i}.conv3" for i in range(3)]


@pytest.mark.parametrize(
    ("library", "position", "expected", "side"),
    [
        ("torchvision", "after_conv1", "conv2", "input"),  # the ReLU is one module called three times
        ("torchvision", "after_conv2", "conv3", "input"),
        ("torchvision", "after_conv3", "bn3", "output"),
        ("timm", "after_conv1", "act1", "output"),
        ("timm", "after_conv2", "act2", "output"),
        ("timm", "after_conv3", "bn3", "output"),
    ],
)
def test_positions(library: str, position: str, expected: str, side: str) -> None:
    with torch.device("meta"):
        model = timm.create_model("resnet50") if library == "timm" else torchvision.models.resnet50(weights=None)
    found = sites(model, META, [{"stages": (False, True, False, True), "position": position}])
    assert [s.name for s in found] == [f"layer2.{i}.{expected}" for i in range(4)] + [
        f"layer4.{i}.{expected}" for i in range(3)
    ]
    assert {s.side for s in found} == {side}
    assert found[0].channels == (512 if position == "after_conv3" else 128)


def test_positions_count_convolutions_of_the_branch_not_of_its_gates() -> None:
    with torch.device("meta"):
        model = timm.create_model("seresnet50")
    assert sites(model, META, [{"position": "after_conv3"}]) == sites(model, META, "block")
    assert sites(model, META, [{"position": "after_conv2"}])[0].name == "layer1.0.act2"


@pytest.mark.parametrize(
    ("at", "error", "message"),
    [
        ("layer5", LookupError, "nearest: layer3.5, layer4, layer3; found by looking: 16 block sites"),
        ("blok", LookupError, "nearest: block"),
        (["conv1", "layer2.*.conv4"], LookupError, r"at='layer2.\*.conv4' matches none .* nearest: layer2.3.conv3"),
        (lambda name, module: False, LookupError, "<lambda> holds for none of the 151 modules"),
        ("layer1.0.relu", ValueError, "layer1.0.relu: it is called 3 times in one forward pass"),
        (["conv1", "fc"], ValueError, r"fc: it gives a tensor \(1, 1000\)"),
        ("layer?.*.relu", ValueError, "called 3 times"),
        (3, TypeError, "wanted at= one of 'block', 'stage', 'head', 'module'"),
        ([], TypeError, "wanted at="),
        (["conv1", {"position": "after_conv1"}], TypeError, "wanted at="),
        ([{"posit": "after_conv1"}], ValueError, "got 'posit'; did you mean 'position'"),
        ([{"position": "after_relu"}], ValueError, "got 'after_relu'"),
        ([{"stages": (True,)}], ValueError, "4 booleans, one a stage of this network, got 1"),
        ([{"stages": "all"}], ValueError, "a tuple of booleans"),
        ([{"position": "after_conv4"}], LookupError, "at most 3 convolutions; nearest: 'after_conv3'"),
        ([{"stages": (False,) * 4}], LookupError, "no stage was chosen"),
    ],
)
def test_what_cannot_be_had(at: object, error: type[Exception], message: str) -> None:
    model = resnet50()
    with pytest.raises(error, match=message):
        insert(model, Gate, at=at, example=META)
    assert inserted(model) == []


def test_positions_need_residual_branches() -> None:
    with torch.device("meta"):
        model = torchvision.models.alexnet()
    with pytest.raises(LookupError, match="counts convolutions of residual branches"):
        sites(model, META, [{"position": "after_conv1"}])
    with pytest.raises(LookupError, match="at most 2 convolutions"):
        sites(HandWritten(), torch.randn(1, 3, 8, 8), [{"position": "after_conv3"}])


def test_modules_that_return_no_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.last = Pair(), nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one, two = self.pair(x)
            return self.last(one * two)

    with pytest.raises(ValueError, match="pair: it returns a tuple"):
        sites(Net(), torch.randn(1, 3, 4, 4), "pair")
    with pytest.raises(ValueError, match="attend: it returns a tuple"):
        sites(Attending(), torch.randn(1, 3, 4, 4), "attend")


def test_a_shared_block_is_no_site() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.once = Block(3, 3, 1, "plus"), Block(3, 3, 1, "plus")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.once(self.shared(self.shared(x)))

    assert [s.name for s in sites(Recurrent(), torch.randn(1, 3, 4, 4), "block")] == ["once.norm2"]

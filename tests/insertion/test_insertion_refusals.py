"""What insertion refuses, and that a failure leaves the model alone; names and classes of hosts."""

import pytest
import torch
from insertion_networks import Block, Gate, HandWritten, X, everything, resnet
from torch import nn

from foveate.attention import create_attention
from foveate.insertion import insert, inserted, remove


def test_an_attribute_of_that_name() -> None:
    model = HandWritten()
    model.stem.foveate = 1
    with pytest.raises(ValueError, match="stem has an attribute 'foveate' of its own"):
        insert(model, Gate, at="stem", example=X)


class Twice(nn.Module):
    """Calls its convolution once by call and once past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv.forward(self.conv(x))


class WalksChildren(nn.Module):
    """Runs all of its children, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for module in self.children():
            x = torch.tanh(module(x))
        return x


def halves(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels // 2, 1)


@pytest.mark.parametrize(
    ("model", "at", "attention", "error", "message"),
    [
        (Twice(), "conv", Gate, ValueError, "conv: ran 2 times"),
        (nn.Sequential(WalksChildren()), "0", Gate, ValueError, "0: ran 2 times"),
        (HandWritten(), "block", halves, ValueError, r"keep the shape \(2, 8, 32, 32\), it gave \(2, 4, 32, 32\)"),
        (HandWritten(), "block", Gate(3), TypeError, "got Gate instance"),
        (HandWritten(), "block", 3, TypeError, "got int 3"),
        (HandWritten(), "block", lambda channels: channels, TypeError, "make a torch.nn.Module, got int"),
        (HandWritten(), "block", "cban", LookupError, "did you mean 'cbam'"),
    ],
)
def test_failures_leave_the_model_alone(
    model: nn.Module, at: str, attention: object, error: type[Exception], message: str
) -> None:
    before, modes = everything(model), [m.training for m in model.modules()]
    with pytest.raises(error, match=message):
        insert(model, attention, at=at, example=X)  # type: ignore[arg-type]
    assert everything(model) == before
    assert modes == [m.training for m in model.modules()]


def test_wrong_options_are_noticed_before_anything_changes() -> None:
    model = resnet()
    before = everything(model)
    with pytest.raises(TypeError, match="reduction"):
        insert(model, "se", example=X, reductoin=4)
    with pytest.raises(TypeError, match="biass"):
        insert(model, Gate, example=X, biass=1)
    with pytest.raises(ValueError):
        insert(model, "se", example=X, reduction=128)  # too much for 64 channels
    with pytest.raises(ValueError, match="wanted init='paper' or 'identity', got 'zero'"):
        insert(model, "se", example=X, init="zero")
    assert everything(model) == before


def test_a_registered_name_is_create_attention() -> None:
    model = resnet()
    insert(model, "cbam", example=X, seed=0, reduction=8)
    torch.manual_seed(0)
    first = create_attention("cbam", 64, reduction=8)
    mine = dict(inserted(model))["layer1.0.bn2"]
    assert type(mine) is type(first)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), first.parameters(), strict=True))


def test_names_in_a_wrapper_and_in_a_part() -> None:
    model = resnet()
    insert(model, Gate, example=X, at="stage")
    assert inserted(nn.ModuleDict({"net": model}))[0][0] == "net.layer1"
    remove(model.layer1)
    assert list(dict(inserted(model))) == ["layer2", "layer3", "layer4"]


def test_a_block_of_the_users_class_keeps_its_class() -> None:
    model = HandWritten()
    insert(model, Gate, example=X, at="stage")
    last = model.stage2[1]
    assert isinstance(last, Block)
    assert (type(last).__name__, type(last).__module__) == ("Block", Block.__module__)

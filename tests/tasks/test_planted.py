"""Digits moved by planted transforms, and what is found of them."""

import math

import pytest
import torch
from torch import nn

import foveate
from foveate.attention.stn import affine_sample
from foveate.data.open import open_data
from foveate.spec import DataSpec
from foveate.tasks import create_task
from foveate.tasks.planted import correlation, parts_of


def planted(**options):
    return open_data(
        DataSpec(kind="planted", source="embedded", size=(24, 24), train_items=20, test_items=40, options=options)
    )


class Knows(nn.Module):
    """Predicts the planted transforms in a frame of its own, and gives no classes."""

    def __init__(self, transforms, frame):
        super().__init__()
        self.transforms, self.frame = transforms, frame
        self.stn = foveate.create_attention("stn", 1)
        self.stn.localise = self.localise

    def localise(self, x):
        square = torch.cat([self.transforms, torch.tensor([0.0, 0, 1]).expand(len(x), 1, 3)], 1)
        return (square @ self.frame)[:, :2]

    def forward(self, x):
        return self.stn(x).flatten(1)[:, :10]


def test_the_planted_transform_shows_the_digits_upright_again():
    moved, still = planted().test, planted(degrees=0, shift=0, zoom=1).test
    items = list(range(40))
    x, theta = moved.batch(items, None).inputs, moved.batch(items, None).targets["transform"].reshape(-1, 2, 3)
    assert torch.equal(moved.batch(items, None).targets["label"], torch.arange(40) % 10)
    upright = still.batch(items, None).inputs
    back = affine_sample(x, theta)
    inside = (..., slice(6, 18), slice(6, 18))
    before = nn.functional.cosine_similarity(x[inside].flatten(1), upright[inside].flatten(1)).mean()
    after = nn.functional.cosine_similarity(back[inside].flatten(1), upright[inside].flatten(1)).mean()
    assert after > 0.8 > before + 0.2
    identity = still.batch(items, None).targets["transform"]
    torch.testing.assert_close(identity, torch.tensor([1.0, 0, 0, 0, 1, 0]).expand(40, 6))


def test_what_is_found_does_not_depend_on_the_frame():
    data = planted()
    task = create_task("planted", data)
    assert [one.name for one in task.metrics][-3:] == ["rotation found", "shift found", "zoom found"]
    batch = data.test.batch(list(range(40)), None)
    angle = math.radians(170)
    frame = torch.tensor(
        [[2 * math.cos(angle), -2 * math.sin(angle), 0], [2 * math.sin(angle), 2 * math.cos(angle), 0], [0, 0, 1]]
    )
    knows = Knows(batch.targets["transform"].reshape(-1, 2, 3), frame)
    meter = task.meter()
    meter.update(knows, batch)
    values = meter.scores().values
    for name in ("rotation found", "shift found", "zoom found"):
        assert values[name] == pytest.approx(1, abs=1e-4)
    plain = task.meter()
    with torch.no_grad():
        plain.update(nn.Sequential(nn.Flatten(), nn.Linear(576, 10)), batch)
    assert plain.scores().values["rotation found"] == 0


def test_parts_of_a_transform_and_their_correlation():
    a = parts_of(torch.tensor([[0.0, -2, 0.1, 2, 0, 0.2]]))
    assert a["rotation"].item() == pytest.approx(90)
    assert a["zoom"].item() == pytest.approx(math.log(2))
    assert a["shift"].tolist() == [[pytest.approx(0.1), pytest.approx(0.2)]]
    planted = torch.linspace(-40, 40, 9)[:, None]
    turned = (planted + 175 + 180) % 360 - 180
    assert correlation(planted, turned, "rotation") == pytest.approx(1)
    some = torch.randn(50, 2)
    assert correlation(some, -some, "shift") == pytest.approx(-1)
    assert correlation(some, torch.ones(50, 2), "shift") == 0


def test_only_what_is_planted_is_measured():
    task = create_task("planted", planted(shift=0, zoom=1))
    assert [one.name for one in task.metrics][-1:] == ["rotation found"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"degrees": 200}, "degrees from 0 to 180; got 200"), ({"zoom": 0.5}, "zoom from 1 to 1.6")],
)
def test_transforms_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"planted digits: wanted {message}"):
        planted(**options)

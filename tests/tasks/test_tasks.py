"""Tasks: what they measure, which losses they add, and what they refuse."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from task_data import LABEL, MASK, PLACE, given
from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.spec import Metric
from foveate.tasks import TASKS, Task, create_task

LABELS = torch.tensor([0, 1, 2, 1])
LOGITS = torch.tensor([[4.0, 0, 0], [0, 0, 4], [0, 0, 4], [0, 4, 0]])


class Constant(nn.Module):
    """Gives the same outputs for any input."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return self.outputs


def measured(task, model, data):
    meter = task.meter()
    with torch.inference_mode():
        meter.update(model.eval(), data.test.batch(range(len(data.test)), None))
    return meter.scores()


def test_classification_measures_each_item_and_counts_true_by_predicted_class():
    data = given(LABEL, {"label": LABELS})
    task = create_task("classification", data)
    scores = measured(task, Constant(LOGITS), data)
    assert [metric.name for metric in task.metrics] == ["accuracy", "loss"]
    assert scores.items["accuracy"].tolist() == [1, 0, 1, 1]
    assert scores.values["accuracy"] == 0.75
    assert scores.values["loss"] == pytest.approx(F.cross_entropy(LOGITS, LABELS).item())
    assert scores.confusion.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_mean_iou_is_of_the_sums_over_the_set_and_leaves_ignored_pixels_and_absent_classes_out():
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    masks[0, :2] = 1
    masks[1, 0] = 255
    best = torch.zeros(2, 4, 4, dtype=torch.int64)
    best[0, :1] = 1
    best[1, 0] = 1  # on ignored pixels: neither right nor wrong
    logits = 8.0 * F.one_hot(best, 2).permute(0, 3, 1, 2)
    data = given(MASK, {"mask": masks})
    scores = measured(create_task("segmentation", data), Constant(logits), data)
    assert scores.items["mIoU.intersection"].tolist() == [[8, 4], [12, 0]]
    assert scores.items["mIoU.union"].tolist() == [[12, 8], [12, 0]]
    np.testing.assert_allclose(scores.items["mIoU"], [(8 / 12 + 4 / 8) / 2, 1.0], rtol=1e-6)
    assert scores.values["mIoU"] == pytest.approx((20 / 24 + 4 / 8) / 2)
    assert scores.items["pixel accuracy"].tolist() == [12 / 16, 1.0]
    assert scores.confusion.tolist() == [[20, 0], [4, 4]]


def test_logits_of_a_lower_resolution_are_interpolated_for_loss_score_and_mask():
    data = given(MASK, {"mask": torch.ones(2, 4, 4, dtype=torch.int64)})
    task = create_task("segmentation", data)
    logits = torch.zeros(2, 2, 2, 2)
    logits[:, 1] = 5
    assert measured(task, Constant(logits), data).values["mIoU"] == 1.0
    (mask, _) = task.masks(task.answers(Constant(logits), torch.zeros(2, 1, 4, 4)))
    assert mask.shape == (4, 4)
    assert mask.dtype == np.uint8
    assert (mask == 1).all()
    loss = task.loss(Constant(logits), data.train.batch([0, 1], None))["loss"].item()
    assert loss == pytest.approx(math.log(1 + math.exp(-5)))


def test_regression_gives_the_distance_in_the_targets_unit_from_standardised_outputs():
    places = torch.tensor([[0.0, 10.0], [4.0, 10.0], [0.0, 30.0], [4.0, 30.0]])
    data = given(PLACE, {"place": places})
    task = create_task("regression", data)
    assert task.metrics[0] == Metric("error", "px", "lower", "plain")
    mean, deviation = task.scale
    assert mean.tolist() == [2.0, 20.0]
    right = (places - mean) / deviation
    assert measured(task, Constant(right), data).values["error"] == pytest.approx(0, abs=1e-5)
    off = (places + torch.tensor([3.0, 4.0]) - mean) / deviation
    scores = measured(task, Constant(off), data)
    np.testing.assert_allclose(scores.items["error"], [5.0] * 4, rtol=1e-5)
    assert scores.values["mean absolute error"] == pytest.approx(3.5)
    assert task.predict(off)[0] == pytest.approx({"x": 3.0, "y": 14.0})


def test_a_network_trains_by_its_own_loss():
    torch.manual_seed(0)
    inputs = torch.rand(4, 1, 17, 17)
    data = given(LABEL, {"label": LABELS}, inputs)
    task = create_task("classification", data)
    model = create_network("capsnet", num_classes=3, image_size=17, width=8, types=2)
    lengths = model(inputs)
    here = F.one_hot(LABELS, 3)
    margin = here * (0.9 - lengths).relu() ** 2 + 0.5 * (1 - here) * (lengths - 0.1).relu() ** 2
    found = task.loss(model, data.train.batch(range(4), None))
    assert found["loss"].item() == pytest.approx(margin.sum(1).mean().item(), rel=1e-5)
    smoothed = create_task("classification", data, label_smoothing=0.5)
    with pytest.raises(ValueError, match="the network has a loss of its own, without either"):
        smoothed.loss(model, data.train.batch(range(4), None))


def test_losses_of_inserted_modules_are_added_with_their_weights_in_training_alone():
    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = create_attention("iastp", 4, spatial_dims=3)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.attention(x).flatten(2).mean(2))

    torch.manual_seed(0)
    model, clips = Clip(), torch.rand(4, 4, 2, 5, 5)
    data = given(LABEL, {"label": LABELS}, clips)
    task = create_task("classification", data, loss_weights={"interactive": 0.25, "attention": 2.0})
    batch = data.train.batch(range(4), None)
    parts = task.loss(model.train(), batch)
    assert parts.keys() == {"loss", "main", "interactive", "attention"}
    assert parts["interactive"].item() != 0
    whole = parts["main"] + 0.25 * parts["interactive"] + 2.0 * parts["attention"]
    assert parts["loss"].item() == pytest.approx(whole.item())
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.attention.parameters())
    assert task.loss(model.eval(), batch).keys() == {"loss"}


def test_a_modules_loss_without_a_weight_is_refused():
    class Own(nn.Module):
        def forward(self, x):
            return x

        def losses(self):
            from collections import namedtuple

            return namedtuple("Losses", "sparsity")(torch.ones(4))

    data = given(LABEL, {"label": LABELS})
    model = nn.Sequential(Own(), Constant(LOGITS)).train()
    batch = data.train.batch(range(4), None)
    with pytest.raises(ValueError, match=r"loss 'sparsity' .*wanted its weight in \[task_options\] loss_weights"):
        create_task("classification", data).loss(model, batch)
    found = create_task("classification", data, loss_weights={"sparsity": 3}).loss(model, batch)
    assert found["loss"].item() == pytest.approx(found["main"].item() + 3)


class WithAuxiliary(nn.Module):
    def __init__(self, form, logits):
        super().__init__()
        self.form, self.logits = form, logits

    def forward(self, x):
        other = 0 * self.logits
        forms = {
            "list": [self.logits, other, other],
            "tuple": (self.logits, other),
            "dict": {"aux": other, "out": self.logits},
        }
        return forms[self.form]


@pytest.mark.parametrize(("form", "others"), [("list", 2), ("tuple", 1), ("dict", 1)])
@pytest.mark.parametrize("task_name", ["classification", "segmentation"])
def test_every_output_of_a_network_is_supervised_and_the_main_one_is_measured(form, others, task_name):
    if task_name == "classification":
        data, logits, uniform = given(LABEL, {"label": LABELS}), LOGITS, math.log(3)
    else:
        data = given(MASK, {"mask": torch.zeros(4, 4, 4, dtype=torch.int64)})
        logits, uniform = torch.randn(4, 2, 4, 4), math.log(2)
    task = create_task(task_name, data, auxiliary_weight=0.5)
    model, batch = WithAuxiliary(form, logits), data.train.batch(range(4), None)
    alone = task.loss(Constant(logits), batch)["loss"].item()
    parts = task.loss(model, batch)
    assert parts["loss"].item() == pytest.approx(alone + 0.5 * others * uniform, rel=1e-5)
    assert parts["main"].item() == pytest.approx(alone)
    model.auxiliary_weight = 0.125  # the network's own
    assert task.loss(model, batch)["loss"].item() == pytest.approx(alone + 0.125 * others * uniform, rel=1e-5)
    primary = task.metrics[0].name
    assert measured(task, model, data).values[primary] == measured(task, Constant(logits), data).values[primary]


@pytest.mark.parametrize(
    ("task", "targets", "values", "outputs", "message"),
    [
        ("classification", LABEL, {"label": LABELS}, torch.zeros(4, 2),
         r"wanted logits \(N, 3\) for 3 classes; got \(4, 2\)"),
        ("segmentation", MASK, {"mask": torch.zeros(4, 4, 4).long()}, torch.zeros(4, 2),
         "one answer for the whole sample"),
        ("segmentation", MASK, {"mask": torch.zeros(4, 4, 4).long()}, torch.zeros(4, 3, 4, 4),
         r"wanted logits \(N, 2, \*S\)"),
        ("regression", PLACE, {"place": torch.rand(4, 2)}, torch.zeros(4, 3), r"wanted 2 values a sample \(x, y\)"),
        ("regression", PLACE, {"place": torch.rand(4, 2)}, "text", "wanted a network that gives tensors; got str"),
    ],
)  # fmt: skip
def test_a_network_whose_outputs_do_not_fit_is_refused_in_one_line(task, targets, values, outputs, message):
    data = given(targets, values)
    with pytest.raises(ValueError, match=message) as error:
        create_task(task, data).check(Constant(outputs), data.train.batch(range(4), None))
    assert "\n" not in str(error.value)


def test_data_without_the_targets_or_options_that_do_not_exist_are_refused():
    data = given(LABEL, {"label": LABELS})
    with pytest.raises(ValueError, match=r"given: wanted targets 'mask' \(mask\); it has label \(class\)"):
        create_task("segmentation", data)
    with pytest.raises(TypeError, match=r"has no option 'label_smothing'; did you mean 'label_smoothing'\?"):
        create_task("classification", data, label_smothing=0.1)
    with pytest.raises(ValueError, match="label_smoothing: wanted 0 or more, below 1; got 1"):
        create_task("classification", data, label_smoothing=1)
    with pytest.raises(LookupError, match=r"no task is called 'segmentaton'; did you mean 'segmentation'\?"):
        create_task("segmentaton", data)
    with pytest.raises(ValueError, match="loss: wanted one of smooth_l1, l1, mse; got 'l3'"):
        create_task("regression", given(PLACE, {"place": torch.rand(4, 2)}), loss="l3")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [({"outputs": 1}, "wanted metrics"), ({"metrics": (Metric("error", "px"),)}, "wanted outputs")],
)
def test_a_task_of_ones_own_without_metrics_or_outputs_is_refused(attributes, message, monkeypatch):
    own = type("Own", (Task,), {"loss": None, "meter": None, **attributes})
    monkeypatch.setitem(TASKS._entries, "own", own)
    with pytest.raises(ValueError, match=message):
        create_task("own", given(LABEL, {"label": LABELS}))


def test_pictures_show_target_and_prediction_of_every_sample():
    masks = torch.zeros(3, 4, 4, dtype=torch.int64)
    masks[:, :2] = 1
    for name, data, outputs in (
        ("classification", given(LABEL, {"label": LABELS[:3]}), LOGITS[:3]),
        ("segmentation", given(MASK, {"mask": masks}), torch.zeros(3, 2, 4, 4)),
        ("regression", given(PLACE, {"place": torch.rand(3, 2)}), torch.zeros(3, 2)),
    ):
        task, batch = create_task(name, data), data.test.batch(range(3), None)
        bare = task.draw(batch, None)
        drawn = task.draw(batch, task.answers(Constant(outputs), batch.inputs))
        assert len(bare) == len(drawn) == 3
        assert all(one.ndim == 3 and one.dtype == np.uint8 for one in [*bare, *drawn])
        assert any(one.shape != two.shape or (one != two).any() for one, two in zip(bare, drawn, strict=True))

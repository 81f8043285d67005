"""Losses of masks: what they are of hard answers, weights of classes, positions that are ignored, several outputs."""

import pytest
import torch
import torch.nn.functional as F
from task_data import MASK, given
from torch import nn

from foveate.data.dataset import IGNORED, Target
from foveate.tasks import create_task
from foveate.tasks.losses import MaskLoss, balanced_weights

pytest.importorskip("segmentation_models_pytorch", reason="needs smp: pip install 'foveate[segmentation]'")

MASKS = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, IGNORED]]])
BEST = torch.tensor([[[0, 1, 1, 1], [1, 1, 0, 0]]])  # class 0: 1 of 4 in the union, class 1: 3 of 6; one is not known
HARD = 40.0 * F.one_hot(BEST, 2).movedim(-1, 1).float()


class Gives(nn.Module):
    def __init__(self, *outputs):
        super().__init__()
        self.outputs = nn.ParameterList(outputs)

    def forward(self, x):
        return list(self.outputs) if len(self.outputs) > 1 else self.outputs[0]


def test_losses_of_hard_answers_are_one_minus_the_measure_that_they_stand_for():
    expected = {"dice": 1 - (2 / 5 + 6 / 9) / 2, "lovasz": 1 - (1 / 4 + 3 / 6) / 2}
    for name, value in expected.items():
        assert MaskLoss(name)(HARD, MASKS)[name].item() == pytest.approx(value), name
    logits = torch.randn(HARD.shape, generator=torch.Generator().manual_seed(0))
    known, targets = MASKS != IGNORED, F.one_hot(MASKS % IGNORED, 2).movedim(-1, 1).float()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    focal = ((1 - torch.exp(-entropy)) ** 2 * entropy).mean(1)[known].mean()
    torch.testing.assert_close(MaskLoss("focal")(logits, MASKS)["focal"], focal)
    torch.testing.assert_close(MaskLoss("ce")(logits, MASKS)["ce"], F.cross_entropy(logits, MASKS, ignore_index=255))


@pytest.mark.parametrize("loss", ["ce", "dice", "lovasz", "focal", {"ce": 1, "dice": 0.5}])
@pytest.mark.parametrize("depth", [None, 3])
def test_ignored_positions_give_no_gradient_and_a_batch_of_them_alone_gives_zero(loss, depth):
    shape = (2, 4, 4) if depth is None else (2, depth, 4, 4)
    masks = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0))
    masks[0] = IGNORED
    task = create_task("segmentation", given(MASK, {"mask": masks}), loss=loss)
    model = Gives(torch.randn(2, 2, *shape[1:]), torch.randn(2, 2, *(1 for _ in shape[1:])))
    task.loss(model, task.data.train.batch([0, 1], None))["loss"].backward()
    first = model.outputs[0].grad
    assert first[1].abs().sum() > 0
    assert not first[0].any()
    model.zero_grad()
    masks[:] = IGNORED
    found = task.loss(model, task.data.train.batch([0, 1], None))
    found["loss"].backward()
    assert found["loss"].item() == 0
    assert all((output.grad == 0).all() for output in model.outputs)


def test_weights_of_classes_are_given_by_number_by_name_or_by_how_often_each_occurs():
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    masks[0, 0] = 1
    masks[1, 0] = IGNORED
    data = given({"mask": Target("mask", ("ground", "thing", "absent"))}, {"mask": masks})
    balanced = balanced_weights(data.train, 3)
    assert balanced.tolist() == pytest.approx([28 / (2 * 24), 28 / (2 * 4), 28 / (2 * 4)])
    batch, logits = data.train.batch([0, 1], None), torch.randn(2, 3, 4, 4)
    for weights, expected in (
        ([1, 2, 3], [1.0, 2, 3]), ({"thing": 5}, [1.0, 5, 1]), ("balanced", balanced.tolist()),
    ):  # fmt: skip
        task = create_task("segmentation", data, class_weights=weights)
        wanted = F.cross_entropy(logits, masks, torch.tensor(expected), ignore_index=IGNORED)
        torch.testing.assert_close(task.loss(Gives(logits), batch)["loss"], wanted, rtol=1e-6, atol=0)


def test_each_auxiliary_output_has_its_weight_and_every_term_is_logged():
    task = create_task(
        "segmentation", given(MASK, {"mask": MASKS}), loss={"ce": 2, "dice": 1}, auxiliary_weight=[0.5, 0]
    )
    model = Gives(HARD, 0 * HARD, HARD)
    found = task.loss(model, task.data.train.batch([0], None))
    assert found.keys() == {"loss", "main", "auxiliary1", "auxiliary2", "ce", "dice"}
    assert found["main"].item() == pytest.approx(2 * found["ce"].item() + found["dice"].item())
    assert found["loss"].item() == pytest.approx(found["main"].item() + 0.5 * found["auxiliary1"].item())
    with pytest.raises(
        ValueError, match=r"auxiliary_weight: wanted 1 numbers, one an auxiliary output; got \[0.5, 0\]"
    ):
        task.loss(Gives(HARD, HARD), task.data.train.batch([0], None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "dise"}, "loss: wanted one of ce, dice, lovasz, focal; got 'dise'; did you mean 'dice'"),
        ({"loss": {}}, r"or weights such as \{ce = 1, dice = 1\}; got \{\}"),
        ({"loss": {"ce": 0}}, "loss: wanted a positive weight of 'ce'; got 0"),
        ({"class_weights": [1, 2, 3]}, "class_weights: wanted 'balanced', .* or 2 numbers; got"),
        ({"class_weights": [1, -2]}, "class_weights: wanted positive numbers; got -2"),
        ({"class_weights": {"thin": 2}}, "class_weights: no class is called 'thin'; did you mean 'thing'"),
        ({"auxiliary_weight": "much"}, "auxiliary_weight: wanted a number, or a list of numbers; got 'much'"),
        ({"class_weights": "balance"}, "class_weights: wanted 'balanced'"),
        ({"class_weights": [1, 2], "loss": "lovasz"}, "class_weights: the loss 'lovasz' has none"),
    ],
)
def test_losses_and_weights_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_task("segmentation", given(MASK, {"mask": MASKS}), **options)


def test_a_network_with_its_own_loss_takes_no_other_and_one_class_is_none():
    task = create_task("segmentation", given(MASK, {"mask": MASKS}), loss="dice")
    model = Gives(HARD)
    model.loss = lambda given, mask: given.sum()
    with pytest.raises(ValueError, match="the network has a loss of its own"):
        task.loss(model, task.data.train.batch([0], None))
    with pytest.raises(ValueError, match="segmentation: wanted two or more classes; got road"):
        create_task("segmentation", given({"mask": Target("mask", ("road",))}, {"mask": MASKS}))

"""Scores of masks against hand-made numbers and scikit-learn: sums over images of any size, one class, boundaries."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, jaccard_score
from task_data import MASK, given
from torch import nn

from foveate.data.dataset import IGNORED, Batch, Target
from foveate.data.reading import evaluation_parts
from foveate.study.analyse.inference import item_variance, resampled_item_variance
from foveate.study.analyse.items import of_metric, shared_values
from foveate.study.analyse.remade import of_sums
from foveate.tasks import create_task
from foveate.tasks.boundaries import boundary_f1

NAMES = {"mask": Target("mask", ("ground", "salt", "rock", "absent"))}


class Answers(nn.Module):
    """Gives the inputs, class numbers (N, 1, H, W), as sure logits."""

    def forward(self, x):
        return 9.0 * F.one_hot(x[:, 0].long(), 4).movedim(-1, 1).float()


def scored(found, masks, **options):
    """Scores of answers given for masks, lists of (H, W) of any size."""
    task = create_task("segmentation", given(NAMES, {"mask": masks[0][None]}), **options)
    meter = task.meter()
    for number, (answer, mask) in enumerate(zip(found, masks, strict=True)):
        meter.update(Answers(), Batch(answer[None, None].float(), {"mask": mask[None]}, torch.tensor([number])))
    return task, meter.scores()


@pytest.fixture(scope="module")
def drawn():
    draw = torch.Generator().manual_seed(0)
    sizes = [(8, 9), (8, 9), (13, 5), (4, 4)]
    masks = [torch.randint(0, 3, size, generator=draw) for size in sizes]
    found = [torch.where(torch.rand(m.shape, generator=draw) < 0.7, m, 1) for m in masks]
    masks[0][0] = IGNORED
    masks[3][masks[3] == 1] = 2
    return found, masks


def test_scores_of_images_of_several_sizes_are_those_of_scikit_learn_over_all_positions(drawn):
    found, masks = drawn
    known = torch.cat([mask.flatten() != IGNORED for mask in masks])
    y = torch.cat([mask.flatten() for mask in masks])[known].numpy()
    x = torch.cat([answer.flatten() for answer in found])[known].numpy()
    _, scores = scored(found, masks)
    assert scores.values["mIoU"] == pytest.approx(jaccard_score(y, x, average="macro"), rel=1e-12)
    assert scores.values["mean Dice"] == pytest.approx(f1_score(y, x, average="macro"), rel=1e-12)
    assert scores.values["pixel accuracy"] == pytest.approx((x == y).mean(), rel=1e-12)
    each = jaccard_score(y, x, average=None), f1_score(y, x, average=None)
    for k, name in enumerate(("ground", "salt", "rock")):
        assert [scores.by_class[name][figure] for figure in ("IoU", "Dice")] == pytest.approx([one[k] for one in each])
    assert scores.items["mIoU"][2] == pytest.approx(
        jaccard_score(masks[2].flatten(), found[2].flatten(), average="macro")
    )
    assert scores.confusion.sum() == known.sum()


def test_metrics_of_the_set_are_made_again_from_what_is_kept_of_each_image(drawn):
    task, scores = scored(*drawn)
    arrays = {"names": 0, **scores.items}
    for metric in task.metrics[:3]:
        names, whole = of_metric((list("abcd"), arrays), metric)
        assert whole.value(np.ones((1, 4)))[0] == pytest.approx(scores.values[metric.name])
        residuals, count = shared_values([(names, whole)], {})
        assert count == 4
        assert residuals.sum() == pytest.approx(0, abs=1e-6)


def test_influences_of_items_vary_as_resampled_items_do():
    draw = np.random.default_rng(0)
    union = draw.integers(50, 400, (300, 5)).astype(float)
    sums = {"intersection": np.round(union * draw.beta(6, 3, union.shape)), "union": union}
    whole, names = of_sums(sums), [str(number) for number in range(300)]
    (residuals,), _ = shared_values([(names, whole)], {})
    resampled = resampled_item_variance(lambda weights: np.stack([whole.value(weights)] * 2, 1), 300)
    assert float(item_variance(np.stack([residuals] * 2))) == pytest.approx(resampled, rel=0.2)


def test_one_class_is_scored_in_each_image_and_empty_masks_count_as_told(drawn):
    found, masks = drawn
    found = [*found, torch.zeros(4, 4).long()]
    masks = [*masks, torch.zeros(4, 4).long()]  # without salt, and none is found; in the image before some is
    expected = [f1_score((m == 1).flatten(), (x == 1).flatten()) for m, x in zip(masks[1:3], found[1:3], strict=True)]
    for empty, more in (("skip", []), ("one", [0.0, 1.0])):
        task, scores = scored(found[1:], masks[1:], of="salt", empty=empty)
        assert [metric.name for metric in task.metrics][:3] == ["Dice of salt", "IoU of salt", "mIoU"]
        assert scores.values["Dice of salt"] == pytest.approx(np.mean(expected + more), rel=1e-6)
        assert np.isnan(scores.items["Dice of salt"]).sum() == (2 if empty == "skip" else 0)
        dice = scores.items["Dice of salt"]
        np.testing.assert_allclose(scores.items["IoU of salt"], dice / (2 - dice), rtol=1e-6)
        assert ("are left out" if empty == "skip" else "count 1 where nothing is found, else 0") in task.notes[0]
    with pytest.raises(ValueError, match="wanted an image whose mask has the class; none has"):
        scored(found[3:], masks[3:], of="salt", empty="skip")


def test_boundary_f1_of_shifted_squares():
    target = np.zeros((40, 30), np.int64)  # diagonal 50
    target[10:20, 10:20] = 1
    assert boundary_f1(target, target) == 1
    moved = np.roll(target, 2, 1)
    assert boundary_f1(moved, target, 2 / 50) == 1, "within the tolerance"
    beside = boundary_f1(moved, target, 1 / 50)
    assert beside == pytest.approx((20 / 36 + f1_of_ground(target, moved)) / 2), "of 36, 9 above, 9 below, 2 corners"
    assert boundary_f1(0 * target, target) == 0
    assert boundary_f1(0 * target, 0 * target) == 1
    hidden = target.copy()
    hidden[:, 15:] = IGNORED
    assert boundary_f1(np.where(hidden == IGNORED, 1, target), hidden) == 1, "what is not known has no boundary"
    assert np.isnan(boundary_f1(target, np.full_like(target, IGNORED)))


def f1_of_ground(target, moved, radius=1.0):
    """Of class 0, by brute force."""
    sides = []
    for mask in (target, moved):
        padded = np.pad(mask, 1, mode="edge")
        near = np.stack([np.roll(padded, s, a)[1:-1, 1:-1] for s in (1, -1) for a in (0, 1)])
        sides.append(np.argwhere((mask == 0) & (near == 1).any(0)))
    distances = np.linalg.norm(sides[0][:, None] - sides[1][None], axis=2) <= radius
    recall, precision = distances.any(1).mean(), distances.any(0).mean()
    return 2 * precision * recall / (precision + recall)


def test_boundaries_are_measured_where_a_tolerance_is_given(drawn):
    found, masks = drawn
    task, scores = scored(found, masks, boundary=0.1)
    each = [boundary_f1(x.numpy(), m.numpy(), 0.1) for x, m in zip(found, masks, strict=True)]
    assert [metric.name for metric in task.metrics] == ["mIoU", "mean Dice", "pixel accuracy", "boundary F1", "loss"]
    assert scores.values["boundary F1"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "slat"}, "of: no class is called 'slat'; did you mean 'salt'"),
        ({"of": "salt", "empty": "zero"}, "empty: wanted one of skip, one; got 'zero'"),
        ({"empty": "skip"}, 'empty goes with of = "CLASS"; got none'),
        ({"boundary": 3}, "boundary: wanted a share of the diagonal above 0 and below 1; got 3"),
    ],
)
def test_options_of_scores_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_task("segmentation", given(NAMES, {"mask": torch.zeros(1, 4, 4).long()}), **options)


def test_a_batch_of_evaluation_has_items_of_one_size_and_fewer_of_large_ones():
    data = given(MASK, {"mask": torch.zeros(6, 4, 4).long()})
    assert evaluation_parts(data.test, range(6), 4, 16) == [[0, 1, 2, 3], [4, 5]]
    data.test.shapes = np.array([0, 0, 0, 1, 1, 0])
    assert evaluation_parts(data.test, range(6), 2, 16) == [[0, 1], [2], [3, 4], [5]]
    data.test.positions = np.array([10, 10, 10, 20, 20, 10])
    assert evaluation_parts(data.test, range(6), 2, 10) == [[0, 1], [2], [3], [4], [5]]

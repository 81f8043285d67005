"""Distillation: losses against numbers computed by hand, and a task whose loss has the teacher in it."""

import math

import pytest
import torch
from torch import nn

import foveate
from foveate.compress.distill import attention_loss, distilled, logits_loss, similarity_loss
from foveate.compression import Distillation
from foveate.data import open_data
from foveate.spec import DataSpec
from foveate.tasks import create_task


def test_the_loss_of_logits_is_the_divergence_at_the_temperature():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3.0), 0.0]])
    wanted = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))  # at T = 2 the teacher says 3 : 1
    assert logits_loss(student, teacher, 2.0).item() == pytest.approx(wanted, rel=1e-6)
    pixels = logits_loss(
        student[:, :, None, None].expand(1, 2, 3, 5), teacher[:, :, None, None].expand(1, 2, 3, 5), 2.0
    )
    assert pixels.item() == pytest.approx(wanted, rel=1e-6)


def test_the_loss_of_attention_maps_compares_squares_over_channels_as_unit_vectors():
    student = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])  # all at the first position
    teacher = torch.tensor([[[[0.0, 3.0]]]])  # all at the second, with another number of channels
    assert attention_loss(student, teacher).item() == pytest.approx(2.0)
    assert attention_loss(student, 5 * student).item() == pytest.approx(0.0)


def test_the_loss_of_features_compares_how_alike_the_items_are():
    student, teacher = torch.eye(2)[:, :, None], torch.ones(2, 3, 4)
    half = 0.5**0.5  # of the teacher every item is like every other: rows (√½, √½); of the student rows (1, 0)
    assert similarity_loss(student, teacher).item() == pytest.approx(2 * ((1 - half) ** 2 + half**2) / 4)


@pytest.fixture(scope="module")
def task():
    return create_task("classification", open_data(DataSpec(train_items=20, test_items=20)))


def test_a_taught_task_has_the_parts_of_its_loss_and_measures_the_same(task):
    batch = task.data.train.batch([0, 1, 2, 3], None)
    teacher = foveate.create_network("resnet14", num_classes=10, in_channels=1)
    student = foveate.create_network("resnet8", num_classes=10, in_channels=1).train()
    spec = Distillation(teacher="t", logits=0.25, features=2.0, attention=3.0)
    taught = distilled(task, spec, student, teacher, batch.inputs)
    parts = taught.loss(student, batch)
    wanted = 0.75 * parts["task"] + 0.25 * parts["logits"] + 2 * parts["features"] + 3 * parts["attention"]
    torch.testing.assert_close(parts["loss"], wanted)
    assert student.training
    assert taught.metrics == task.metrics
    assert set(task.loss(student, batch)) == {"loss"}
    parts["loss"].backward()
    assert all(value.grad is None for value in teacher.parameters())
    assert not any(module._forward_hooks for module in (*student.modules(), *teacher.modules()))


def test_a_network_that_is_its_own_teacher_has_nothing_to_learn_from_it(task):
    batch = task.data.train.batch([0, 1, 2, 3], None)
    student = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    teacher = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    teacher.load_state_dict(student.state_dict())
    spec = Distillation(teacher="t", logits=1.0, features=1.0, attention=1.0)
    parts = distilled(task, spec, student, teacher, batch.inputs).loss(student.eval(), batch)
    assert parts["loss"].item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (foveate.create_network("resnet8", num_classes=3, in_channels=1), r"outputs \(4, 10\); got \(4, 3\)"),
        (foveate.create_network("resnet8", num_classes=10, in_channels=3), "does not take these inputs"),
        (nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), "maps of a size that both networks have"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(task, teacher, message):
    batch = task.data.train.batch([0, 1, 2, 3], None)
    student = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match=message):
        distilled(task, Distillation(teacher="t", features=1.0), student, teacher, batch.inputs)

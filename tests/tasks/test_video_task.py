"""The task video: whole clips are judged by the mean over their samples; frames alone say nothing of moving digits."""

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.data.dataset import Batch
from foveate.data.open import kind_of, open_data
from foveate.spec import EMBEDDED, DataSpec
from foveate.tasks import create_task


@pytest.fixture(scope="module")
def task():
    spec = DataSpec(kind=kind_of(EMBEDDED, "video"), train_items=8, test_items=8, options={"frames": 4})
    return create_task("video", open_data(spec))


class Brightness(nn.Module):
    """Logits from the mean of a clip of four frames."""

    def forward(self, x):
        assert x.shape[2] == 4
        mean = x.mean((1, 2, 3, 4))
        return torch.stack([mean, -mean, 0 * mean, 2 * mean], 1)


def test_the_axes_are_what_a_subset_has_in_proportion_and_chance_is_known(task):
    assert task.data.test.strata.tolist() == task.data.test.batch(range(8), None).targets["label"].tolist()
    assert task.baseline() == ("always giving the most frequent class", {"accuracy": 0.25})


def test_a_clip_of_several_samples_is_judged_by_the_mean_of_their_probabilities(task):
    torch.manual_seed(0)
    x, labels = torch.randn(3, 1, 12, 8, 8) * 20, torch.tensor([0, 1, 3])
    each = torch.stack([Brightness()(part).softmax(1) for part in x.split(4, 2)])
    torch.testing.assert_close(task.answers(Brightness(), x).exp(), each.mean(0))
    meter = task.meter()
    meter.update(Brightness(), Batch(x, {"label": labels}, torch.arange(3)))
    scores = meter.scores()
    assert scores.items["accuracy"].tolist() == (each.mean(0).argmax(1) == labels).float().tolist()
    assert scores.values["loss"] == pytest.approx(-each.mean(0)[range(3), labels].log().mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="wanted clips of 4 frames"):
        task.answers(Brightness(), x[:, :, :6])


def test_the_embedded_clips_train_a_network_and_are_drawn(task):
    batch = task.data.train.batch(range(4), (0, 0))
    network = foveate.create_network("iastp_tsn", num_classes=task.outputs, in_channels=1, encoder="timm:resnet10t")
    task.check(network, batch)
    parts = task.loss(network.train(), batch)
    assert {"main", "interactive", "attention"} <= parts.keys()
    parts["loss"].backward()
    drawn = task.draw(batch, network.eval()(batch.inputs).detach())
    assert len(drawn) == 4
    assert drawn[0].dtype == np.uint8
    assert drawn[0].shape[1] > 3 * drawn[0].shape[0]


def test_a_network_of_images_and_data_of_images_are_refused(task):
    batch = task.data.train.batch(range(2), None)
    with pytest.raises(ValueError, match="wanted a network of clips"):
        task.check(foveate.create_network("resnet20", num_classes=4, in_channels=1), batch)
    with pytest.raises(ValueError, match="wanted clips"):
        create_task("video", open_data(DataSpec(train_items=10, test_items=10)))

"""Re-identification of clips: mAP and ranks by hand, the hardest triplets, embeddings of networks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveate
from foveate.data.open import open_data
from foveate.spec import DataSpec
from foveate.tasks import create_task
from foveate.tasks.reidentification import batch_hard, retrieval_scores


def test_scores_are_those_of_ranked_lists():
    angles = torch.tensor([0.0, 10.0, 25.0, 40.0, 60.0, 90.0]).deg2rad()
    embeddings = torch.stack([angles.cos(), angles.sin()], 1)
    scores = retrieval_scores(embeddings, torch.tensor([0, 1, 0, 1, 1, 0]))
    # of the first clip the order is 1 0 1 1 0: precision 1/2 and 2/5 at its two matches
    assert scores["mAP"][0] == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert scores["rank-1"].tolist() == [0, 0, 0, 0, 1, 0]
    assert scores["rank-5"].tolist() == [1] * 6
    with pytest.raises(ValueError, match="identity 2 has one clip"):
        retrieval_scores(embeddings, torch.tensor([0, 0, 1, 1, 1, 2]))


def test_a_clip_has_to_be_nearer_to_its_farthest_match_than_to_its_nearest_other():
    torch.manual_seed(0)
    outputs = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    identities = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    unit = F.normalize(outputs, dim=1).detach()
    distances = torch.cdist(unit, unit)
    terms = []
    for i, own in enumerate(identities):
        same = [distances[i, j] for j in range(7) if identities[j] == own and j != i]
        others = [distances[i, j] for j in range(7) if identities[j] != own]
        terms.append(max(0.0, 0.3 + max(same) - min(others)))
    loss = batch_hard(outputs, identities, 0.3)
    assert loss.item() == pytest.approx(float(np.mean(terms)))
    loss.backward()
    assert outputs.grad.isfinite().all()
    assert batch_hard(outputs, torch.arange(7), 0.3).item() == 0, "no clip has a match"


@pytest.fixture(scope="module")
def data():
    options = {"frames": 4}
    return open_data(DataSpec(kind="moving_digits", train_items=20, test_items=20, options=options))


class Levels(nn.Module):
    """Two numbers of each frame; of all frames the mean."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(2, outputs)

    def forward(self, x):
        frames = x.transpose(1, 2).flatten(0, 1)
        given = self.fc(torch.stack([frames.mean((1, 2, 3)), frames.std((1, 2, 3))], 1))
        return given.unflatten(0, (len(x), -1)).mean(1)


@pytest.mark.parametrize("loss", ["triplet", "cross_entropy"])
def test_both_losses_train_a_network_and_every_test_clip_is_a_query(data, loss):
    task = create_task("reidentification", data, loss=loss)
    assert task.outputs == (64 if loss == "triplet" else 10)
    model = Levels(task.outputs)
    batch = data.train.batch(range(20), (0, 0))
    task.check(model, batch)
    task.loss(model, batch)["loss"].backward()
    assert model.fc.weight.grad.abs().sum() > 0
    meter = task.meter()
    with torch.no_grad():
        for first in (0, 12):
            meter.update(model.eval(), data.test.batch(range(first, min(first + 12, 20)), None))
        twice = torch.cat([batch.inputs, batch.inputs], 2)
        torch.testing.assert_close(task.embed(model, twice), task.embed(model, batch.inputs))
    scores = meter.scores()
    assert set(scores.values) == {"mAP", "rank-1", "rank-5"} == {metric.name for metric in task.metrics}
    assert all(len(values) == 20 for values in scores.items.values())
    assert len(task.draw(batch, None)) == 20
    assert len(task.predict(model(batch.inputs))[0]) == (64 if loss == "triplet" else 2)


def test_what_does_not_go_together_is_refused(data):
    with pytest.raises(ValueError, match="margin goes with loss = 'triplet'"):
        create_task("reidentification", data, loss="cross_entropy", margin=0.2)
    with pytest.raises(ValueError, match="loss: wanted 'triplet' or 'cross_entropy'"):
        create_task("reidentification", data, loss="contrastive")
    with pytest.raises(ValueError, match="wanted targets 'person'"):
        create_task("reidentification", data, identity="person")
    task = create_task("reidentification", data, loss="cross_entropy")
    backbone = foveate.create_network("tsn", num_classes=10, in_channels=1, backbone="timm:test_resnet")
    task.check(backbone, data.train.batch(range(4), None))
    conv = nn.Sequential(nn.Conv3d(1, 10, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    with pytest.raises(ValueError, match="wanted a network with a linear layer to 10 identities"):
        task.check(conv, data.train.batch(range(4), None))

"""Trained weights of CamVid, scored by the task: the published mean intersection over union."""

import pytest
import torch
from cgnet import MEAN, CGNet

from foveate.data import open_data
from foveate.networks import load_weights, read_weights
from foveate.spec import DataSpec
from foveate.tasks import create_task


@pytest.mark.slow
def test_the_trained_cgnet_has_its_miou_on_camvid(shared):
    options = {"classes": "camvid", "own_size": True, "mean": [value / 255 for value in MEAN], "std": [1 / 255] * 3}
    data = open_data(DataSpec(source=str(shared / "data" / "camvid"), kind="masks", options=options))
    assert (len(data.test), data.test.batch([0], None).inputs.shape) == (233, (1, 3, 360, 480))
    task = create_task("segmentation", data)
    model = CGNet(task.outputs)
    load_weights(model, read_weights(shared / "data" / "weights" / "cgnet_m3n21_camvid_trainval_800.pth"))
    meter = task.meter()
    with torch.inference_mode():
        for item in range(233):
            meter.update(model.eval(), data.test.batch([item], None))
    values = meter.scores().values
    assert values["mIoU"] == pytest.approx(0.6507, abs=5e-5)
    assert values["pixel accuracy"] == pytest.approx(0.9037, abs=5e-5)

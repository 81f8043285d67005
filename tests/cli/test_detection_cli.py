"""A person's own detector from its study to the boxes that it finds in files."""

import json

import numpy as np
from command_line import foveate
from PIL import Image

OWN = """
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torch import nn


class Backbone(nn.Sequential):
    out_channels = 32


def build(num_classes):
    widths = ((3, 16), (16, 32), (32, 32))
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in widths]
    boxes = AnchorGenerator(((8,),), ((1.0,),))
    return FCOS(Backbone(*layers), num_classes, min_size=48, max_size=48, anchor_generator=boxes, score_thresh=0.0)
"""


def test_a_detector_of_ones_own_is_studied_and_finds_boxes_in_files(tmp_path):
    (tmp_path / "my.py").write_text(OWN)
    study = f"""
task = "detection"
network = "{tmp_path}/my.py:build"
variants = ["none", {{ attention = "se", at = "backbone.*", options = {{ reduction = 4 }} }}]
seeds = [0]
control = "none"
data = {{ size = 48, train_items = 24, test_items = 12 }}
train = {{ epochs = 2, batch_size = 4, lr = 0.01, ema = 0.9, clip = 5.0 }}
"""
    (tmp_path / "study.toml").write_text(study)
    done = foveate("study", "run", tmp_path / "study.toml", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metric"]["name"] == "mAP"
    runs = [folder for folder in (tmp_path / "out" / "runs").iterdir() if (folder / "model.safetensors").is_file()]
    assert len(runs) == 2
    assert all((run / "examples.png").is_file() for run in runs)
    assert sum((run / "attention.png").is_file() for run in runs) == 1
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)).save(tmp_path / "photos/a.png")
    done = foveate(
        *("predict", tmp_path / "photos", "--run", tmp_path / "out", "--out", tmp_path / "found", "--least-score", "0")
    )
    assert done.returncode == 0, done.stderr
    coco = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert coco["images"] == [{"id": 1, "file_name": "a.png", "width": 60, "height": 30}]
    assert [one["name"] for one in coco["categories"]] == list("0123456789")
    assert coco["annotations"]
    for one in coco["annotations"]:
        x, y, wide, high = one["bbox"]
        assert 0 <= x <= x + wide <= 60 + 1e-3
        assert 0 <= y <= y + high <= 30 + 1e-3
    assert (tmp_path / "found" / "a.png").is_file()
    assert len((tmp_path / "found" / "predictions.csv").read_text().splitlines()) == 1 + len(coco["annotations"])


def test_a_detector_for_another_task_and_another_network_for_detection_are_named(tmp_path):
    words = ["--attention", "none", "--seeds", "1", "--epochs", "1", "--out", tmp_path / "out"]
    ssd = "torchvision:ssdlite320_mobilenet_v3_large"
    done = foveate("study", "run", "--network", ssd, *words)
    assert done.returncode == 2
    assert 'is a detector, which takes images and boxes; it goes with task = "detection"' in done.stderr
    done = foveate("study", "run", "--task", "detection", "--network", "foveate:resnet8", *words)
    assert done.returncode == 2
    assert "takes no targets; detection wanted a detector" in done.stderr

"""Maps of classes of images of any size: windows blended, within a memory budget, mirrored, at several scales."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from task_data import MASK, given
from torch import nn

from foveate.counting.peak import peak_bytes
from foveate.networks import create_network
from foveate.study.predict import Predictor, predict_files
from foveate.tasks import create_task
from foveate.tasks.prediction import MIB, Prediction, read_prediction
from foveate.tasks.windows import blending, starts


@pytest.fixture
def image():
    return torch.rand(2, 3, 75, 101, generator=torch.Generator().manual_seed(0))


def convolutions(*sizes):
    torch.manual_seed(0)
    widths = (3, *[8] * (len(sizes) - 1), 4)
    layers = [nn.Conv2d(widths[i], widths[i + 1], size, padding=size // 2) for i, size in enumerate(sizes)]
    return nn.Sequential(*layers).eval().double()


@pytest.mark.parametrize(("side", "window", "stride"), [(101, 32, 24), (101, 32, 10), (50, 64, 48), (64, 32, 32)])
def test_weights_of_windows_add_up_to_one_at_every_position(side, window, stride):
    window = min(window, side)
    begins = starts(side, window, stride)
    total = torch.zeros(side, dtype=torch.float64)
    for begin, weight in zip(begins, blending(begins, window), strict=True):
        assert (weight >= 0).all()
        total[begin : begin + window] += weight
    torch.testing.assert_close(total, torch.ones(side, dtype=torch.float64))


@torch.inference_mode()
def test_windows_give_the_whole_where_the_network_sees_no_further_than_a_quarter_of_the_overlap(image):
    image = image.double()
    for model, window, stride in (
        (convolutions(1, 1), (16, 24), (16, 20)),  # sees one position: even without overlap
        (convolutions(3, 3), (32, 32), (24, 24)),  # 2 of 8
        (convolutions(3, 3), (32, 32), (10, 10)),
    ):
        whole = Prediction().scores(model, image, (75, 101))
        parts = Prediction(window, stride).scores(model, image, (75, 101))
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
        classes = Prediction(window, stride).classes(model, image)
        assert (classes == whole.argmax(1)).float().mean() > 0.999
    beyond = Prediction((32, 32), (24, 24)).scores(convolutions(7, 7), image, (75, 101))
    assert (beyond - Prediction().scores(convolutions(7, 7), image, (75, 101))).abs().max() > 1e-4


@torch.inference_mode()
def test_mirror_images_and_scales_are_means_of_probabilities(image):
    model = convolutions(3).float()
    mirrored = model(image.flip(3)).flip(3).softmax(1)
    found = Prediction(flip=True).scores(model, image, (75, 101))
    torch.testing.assert_close(found.exp(), (model(image).softmax(1) + mirrored) / 2)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 75, 101))
    same = Prediction(scales=(1.0, 1.0)).scores(model, image, (75, 101))
    torch.testing.assert_close(same.exp(), model(image).softmax(1))
    larger = Prediction(scales=(0.5, 2.0), flip=True, window=(40, 40)).scores(model, image, (75, 101))
    assert larger.shape == (2, 4, 75, 101)
    assert larger.isfinite().all()


@torch.inference_mode()
def test_tiles_are_the_largest_whose_prediction_fits_into_the_memory(image):
    model = create_network("unet_small", num_classes=3, in_channels=3).eval()
    photo = torch.rand(1, 3, 400, 300)
    whole = peak_bytes(lambda: Prediction().classes(model, photo)) / MIB
    assert Prediction(memory=1.1 * whole).tile(model, photo) is None
    limited = Prediction(memory=0.5 * whole)
    tile = limited.tile(model, photo)
    taken = peak_bytes(lambda: limited.classes(model, photo)) / MIB
    assert 64 <= tile[0] < 300
    assert 0.15 * whole < taken < 0.5 * whole
    assert (limited.classes(model, photo) == Prediction().classes(model, photo)).float().mean() > 0.95
    with pytest.raises(ValueError, match=r"memory: wanted \d+ MiB or more for this network; got 0.1"):
        Prediction(memory=0.1).tile(model, photo)


class Picky(nn.Module):
    """Takes sides that are multiples of 32 alone."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise RuntimeError(f"wanted multiples of 32; got {tuple(x.shape[2:])}")
        return nn.functional.avg_pool2d(self.body(x), 4)


@torch.inference_mode()
def test_images_of_any_size_are_predicted_by_networks_that_take_some_sizes(image):
    assert Prediction().classes(Picky(), image).shape == (2, 75, 101)
    assert Prediction(window=(50, 50)).classes(Picky(), image).shape == (2, 75, 101)
    broken = Picky()
    broken.body = nn.Conv2d(1, 2, 3)
    with pytest.raises(RuntimeError, match="wanted multiples of 32"):
        Prediction().classes(broken, image)
    city = create_network("umixformer_mit_b0", num_classes=3, form="cityscapes").eval()
    for size in ((65, 100), (1, 1)):
        assert Prediction().classes(city, torch.rand(1, 3, *size)).shape == (1, *size)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"windw": 3}, "evaluation has no 'windw'; did you mean 'window'"),
        ({"window": [3, 4, 5]}, r"window: wanted a side in pixels, or \[height, width\]; got \[3, 4, 5\]"),
        ({"window": 0}, r"window: wanted pixels, 1 or more; got \[0, 0\]"),
        ({"stride": 3}, "stride goes with window; got none"),
        ({"window": 8, "stride": 9}, r"stride: wanted at most the window's \[8, 8\]; got \[9, 9\]"),
        ({"window": 8, "memory": 9}, "memory chooses the window; wanted one of them; got both"),
        ({"memory": -1}, "memory: wanted MiB above 0; got -1"),
        ({"scales": [1, -1]}, "scales: wanted numbers above 0, at most 16"),
        ({"scales": 2}, "scales: wanted a list of numbers; got 2"),
        ({"flip": 1}, "flip: wanted true or false; got 1"),
    ],
)
def test_predictions_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        read_prediction(given)


def test_held_out_images_are_scored_as_the_tasks_evaluation_says(image):
    masks = torch.zeros(2, 75, 101, dtype=torch.int64)
    data = given(MASK, {"mask": masks}, image)
    model = nn.Sequential(nn.Conv2d(3, 2, 9, padding=4)).eval()
    scores = {}
    for name, options in (("whole", {}), ("windows", {"window": 20, "stride": 20}), ("flip", {"flip": True})):
        task = create_task("segmentation", data, evaluation=options)
        meter = task.meter()
        with torch.inference_mode():
            meter.update(model, data.test.batch([0, 1], None))
            answers = task.answers(model, image)
        scores[name] = meter.scores().values
        assert scores[name]["pixel accuracy"] == pytest.approx((answers == 0).float().mean().item())
    assert len({one["loss"] for one in scores.values()}) == 3
    clips = given(MASK, {"mask": masks[:, None]}, image[:, :, None])
    with pytest.raises(ValueError, match="window, memory, flip and scales go with images"):
        create_task("segmentation", clips, evaluation={"flip": True}).answers(model, image[:, :, None])


def test_photos_of_several_sizes_get_masks_and_overlays_of_their_size(tmp_path):
    draw = np.random.default_rng(0)
    sizes = {"a.png": (40, 30), "b.jpg": (40, 30), "c.png": (57, 33), "below/d.png": (1, 1)}
    for name, size in sizes.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    task = create_task("segmentation", given(MASK, {"mask": torch.zeros(1, 4, 4).long()}))
    seen = []

    def prepare(file):
        return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) / 255

    def answers(model, x):
        seen.append(tuple(x.shape))
        return task.answers(model, x)

    model = nn.Conv2d(3, 2, 1)
    predictor = Predictor("net", model, prepare, answers, task.predict, task.masks, task.classes)
    rows = predict_files(predictor, tmp_path / "photos", masks=tmp_path / "out")
    assert seen == [(2, 3, 30, 40), (1, 3, 1, 1), (1, 3, 33, 57)]
    assert [row["file"] for row in rows] == ["a.png", "b.jpg", "below/d.png", "c.png"]
    for name, size in sizes.items():
        with Image.open((tmp_path / "out" / name).with_suffix(".png")) as mask:
            assert (mask.mode, mask.size) == ("P", size)
            found = np.asarray(mask)
            assert mask.getpalette()[:6] == [0, 0, 0, 0, 114, 178]
        with torch.inference_mode():
            expected = model(prepare(tmp_path / "photos" / name)[None]).argmax(1)[0].numpy()
        np.testing.assert_array_equal(found, expected)
        with Image.open((tmp_path / "out/overlays" / name).with_suffix(".jpg")) as overlay:
            assert overlay.size[1] > size[1], "a legend stands below"
    classes = list(csv.DictReader((tmp_path / "out/classes.csv").read_text().splitlines()))
    assert [(row["class"], row["r"], row["g"]) for row in classes] == [("ground", "0", "0"), ("thing", "0", "114")]

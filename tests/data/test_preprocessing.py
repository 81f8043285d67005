"""Preprocessing as published, and classes by their names."""

import numpy as np
import pytest
import torchvision.transforms.v2 as transforms
from PIL import Image

from foveate.evaluation import Preprocessing, published
from foveate.evaluation.classes import number_classes


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 517), (256, 256), (100, 31), (224, 224)], ids=str)
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_resize_and_crop_are_torchvisions(size, filter):
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    resize = transforms.Resize(256, transforms.InterpolationMode(filter))
    theirs = transforms.Compose([resize, transforms.CenterCrop(224)])(image)
    assert np.array_equal(Preprocessing(interpolation=filter).pixels(image), np.asarray(theirs))


def test_nearest_rounds_the_long_side_and_leaves_half_a_pixel_behind():
    row = np.arange(200, dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(row[None, :, None], (100, 200, 3)).copy())
    shown = Preprocessing(image_size=99, crop_pct=0.99, nearest=True).pixels(image)
    assert shown.shape == (99, 99, 3)
    assert shown[0, 0, 0] == 50, "(200 − 99) / 2, rounded down"
    wide = Image.new("RGB", (151, 100))
    assert Preprocessing(image_size=50, crop_pct=1.0, nearest=True).pixels(wide).shape == (50, 50, 3)


def test_squash_forgets_the_shape():
    image = Image.new("RGB", (90, 30), "white")
    image.paste("black", (0, 0, 45, 30))
    shown = Preprocessing(image_size=32, crop_pct=1.0, squash=True).pixels(image)
    assert shown.shape == (32, 32, 3)
    assert shown[:, :14].max() == 0
    assert shown[:, 18:].min() == 255


@pytest.mark.parametrize(
    ("network", "source", "weights", "wanted"),
    [
        ("foveate:mobilenet_v2", None, "", (224, 0.875, "bilinear", 0.485)),
        ("resnet20", None, "", (32, 1.0, "bilinear", 0.485)),
        ("foveate:mobilenet_v2", "google-coral/test_data", "", (224, 0.875, "bilinear", 0.5)),
        ("timm:resnet50", None, "", (224, 0.95, "bicubic", 0.485)),
        ("timm:mobilenetv2_100", None, "", (224, 0.875, "bicubic", 0.485)),
        ("timm:inception_v3", None, "", (299, 0.875, "bicubic", 0.5)),
        ("torchvision:resnet50", None, "", (224, 224 / 256, "bilinear", 0.485)),
        ("torchvision:resnet50", None, "resnet50-11ad3fa6.pth", (224, 224 / 232, "bilinear", 0.485)),
        ("torchvision:swin_t", None, "", (224, 224 / 232, "bicubic", 0.485)),
        ("mine.py:net", None, "", (224, 0.875, "bilinear", 0.485)),
    ],
)
def test_preprocessing_is_the_published(network, source, weights, wanted):
    found = published(network, source, weights)
    assert (found.image_size, pytest.approx(found.crop_pct), found.interpolation, found.mean[0]) == wanted


def test_class_folders_are_imagenets_by_identity_name_or_number():
    assert number_classes(["n01440764", "n01443537"], 1000, "x") == {"n01440764": 0, "n01443537": 1}
    assert number_classes(["Tench", "great_white_shark", "hen-of-the-woods"], 1000, "x") == {
        "Tench": 0,
        "great_white_shark": 2,
        "hen-of-the-woods": 996,
    }
    assert number_classes(["7", "10", "999"], 1000, "x") == {"7": 7, "10": 10, "999": 999}
    many = [f"own{i:04}" for i in range(1000)]
    assert number_classes(many, 1000, "x")["own0007"] == 7, "a thousand of one's own are in order"
    assert number_classes(["10", "2"], 2, "x") == {"10": 0, "2": 1}, "in order of names, as they were trained"
    for folders, message in (
        (["tench", "crane"], "got 'crane' (several classes are called so)"),
        (["n01440764", "goldfishes"], "got 'goldfishes'; nearest: 'goldfish'"),
        (["tench", "n01440764"], "the folders 'tench' and 'n01440764' are the same class, 0"),
    ):
        with pytest.raises(ValueError) as error:
            number_classes(folders, 1000, "x")
        assert message in str(error.value)
    assert number_classes(["3", "1"], 10, "x") == {"3": 3, "1": 1}

"""Preprocessing as published, and classes by their names."""

import numpy as np
import pytest
import torchvision.transforms.v2 as transforms
from PIL import Image

from foveate.data.classes import number_classes
from foveate.data.photos import Photos
from foveate.data.transforms import Preprocessing, published


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
        ("foveate:se_resnet50", "moskomule/senet.pytorch", "", (224, 0.875, "bilinear", 0.485)),
    ],
)
def test_preprocessing_is_the_published(network, source, weights, wanted):
    found = published(network, source, weights)
    assert (found.image_size, pytest.approx(found.crop_pct), found.interpolation, found.mean[0]) == wanted
    assert found.known


@pytest.mark.parametrize(
    ("network", "source"),
    [("mine.py:net", None), ("foveate:resnet18", "someone/else"), ("timm:vit_tiny_patch16_384", "someone/else")],
)
def test_what_is_not_known_is_imagenets_usual_and_says_so(network, source):
    found = published(network, source)
    assert found.mean[0] in (0.485, 0.5)
    assert not found.known


def numbers_that_reach_the_network(preprocessing, colour):
    """The three values of a photo of one colour, as the network gets them."""
    photo = np.full((300, 280, 3), colour, np.uint8)
    x = Photos([photo], np.zeros(1, np.int64), preprocessing, names=["photo"]).batch([0], None).inputs
    assert x.shape[2:] == (preprocessing.image_size,) * 2
    assert x.flatten(2).std(2).max() == 0
    return pytest.approx(x[0, :, 0, 0].tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("network", "source", "wanted"),
    [
        ("foveate:shufflenet_v2", "megvii-model/ShuffleNet-Series", [30, 20, 10]),
        ("foveate:se_resnet50", "hujie-frank/SENet", [30 - 104, 20 - 117, 10 - 123]),
        ("foveate:sknet50", "implus/SKNet", [30 - 104, 20 - 117, 10 - 123]),
        ("torchvision:squeezenet1_0", "songhan/SqueezeNet-Deep-Compression", [10 - 123, 20 - 117, 30 - 104]),
        ("foveate:mobilenet_v2", "google-coral/test_data", [10 / 127.5 - 1, 20 / 127.5 - 1, 30 / 127.5 - 1]),
    ],
)
def test_the_numbers_that_reach_the_network_are_the_published(network, source, wanted):
    """Of a photo of the colour red 10, green 20, blue 30: Caffe's and OpenCV's networks take blue first."""
    assert numbers_that_reach_the_network(published(network, source), (10, 20, 30)) == wanted


def test_linear_is_between_four_pixels_alone():
    row = np.array([0, 0, 0, 240, 0, 0, 0, 0], np.uint8)
    image = Image.fromarray(np.broadcast_to(row[None, :, None], (8, 8, 3)).copy())
    shown = Preprocessing(image_size=2, crop_pct=1.0, interpolation="linear").pixels(image)
    assert shown[0, :, 0].tolist() == [0, 0], "centres at 1.5 and 5.5: pixels 1, 2 and 5, 6"
    averaged = Preprocessing(image_size=2, crop_pct=1.0, interpolation="bilinear").pixels(image)
    assert averaged[0, 0, 0] > 20


def test_class_folders_are_imagenets_by_identity_name_or_number():
    def numbers(labels, outputs, **options):
        return number_classes(labels, outputs, "x", **options)[0]

    assert numbers(["n01440764", "n01443537"], 1000) == {"n01440764": 0, "n01443537": 1}
    assert numbers(["Tench", "great_white_shark", "hen-of-the-woods"], 1000) == {
        "Tench": 0,
        "great_white_shark": 2,
        "hen-of-the-woods": 996,
    }
    assert numbers(["7", "10", "999"], 1000) == {"7": 7, "10": 10, "999": 999}
    many = [f"own{i:04}" for i in range(1000)]
    assert numbers(many, 1000)["own0007"] == 7, "a thousand of one's own are in order"
    assert numbers(["10", "2"], 2) == {"10": 0, "2": 1}, "in order of names, as they were trained"
    for folders, message in (
        (["tench", "crane"], "got 'crane' (several classes are called so)"),
        (["n01440764", "goldfishes"], "got 'goldfishes'; nearest: 'goldfish'"),
        (["tench", "n01440764"], "the folders 'tench' and 'n01440764' are the same class, 0"),
    ):
        with pytest.raises(ValueError) as error:
            numbers(folders, 1000)
        assert message in str(error.value)
    assert numbers(["3", "1"], 10) == {"3": 3, "1": 1}


def test_decimal_classes_with_one_missing_are_numbered_only_where_it_is_sure():
    """Training on folders 0 to 11 gives output 2 to "10": the second in the order of names after "1"."""
    trained = {name: number for number, name in enumerate(sorted(map(str, range(12))))}
    whole, how = number_classes(sorted(trained), 12, "x")
    assert whole == trained
    assert how == "in the order of their names"
    missing = sorted(set(trained) - {"5"})
    with pytest.raises(ValueError, match="11 of 12 classes: '10' may be output 10 or, in the order of names, 2"):
        number_classes(missing, 12, "x")
    found, how = number_classes(missing, 12, "x", names=sorted(trained))
    assert found == {name: trained[name] for name in missing}
    assert how == "by the network's own list of classes"
    assert number_classes(["0", "1"], 12, "x") == ({"0": 0, "1": 1}, "by their numbers"), "the same in both orders"
    padded = [f"{number:02}" for number in range(12) if number != 5]
    assert number_classes(padded, 12, "x")[0] == {name: int(name) for name in padded}
    assert number_classes(["9", "7"], 10, "x")[0] == {"9": 9, "7": 7}, "one figure: the same in both orders"


def test_a_network_with_a_list_of_classes_takes_no_others():
    names = ("cat", "dog", "great ape")
    assert number_classes(["dog", "Great_Ape"], 3, "x", names=names)[0] == {"dog": 1, "Great_Ape": 2}
    with pytest.raises(ValueError, match=r"^x: the network has no class 'dgo'; did you mean 'dog'\?$"):
        number_classes(["dgo"], 3, "x", names=names)
    with pytest.raises(ValueError, match="wanted 4 different names; got 3"):
        number_classes(["dog"], 4, "x", names=names)

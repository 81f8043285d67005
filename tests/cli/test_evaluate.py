"""foveate evaluate: what is right is counted, images are found as they lie, mistakes are one line."""

import io
import json
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import foveate
from foveate.cli import main
from foveate.cli.evaluate import preprocessing_of, score_classifier
from foveate.data import open_data
from foveate.data.evaluation import evaluation_set, find_images
from foveate.data.transforms import Preprocessing, published
from foveate.networks import read_weights
from foveate.spec import DataSpec
from foveate.trained import load_trained

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
OWN = """import torch


class Colour(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = torch.nn.Linear(3, num_classes, bias=False)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


def colour(num_classes=3):
    return Colour(num_classes)
"""


def photo(path, colour, size=(40, 30), **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **how)


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """Photos of one colour each in class folders, one of the four under a wrong name; a network that tells colours."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    for name, colour in COLOURS.items():
        photo(tmp_path / "photos" / name / "1.png", colour)
    photo(tmp_path / "photos" / "red" / "wrong.png", COLOURS["blue"], (20, 90))
    save_file({"fc.weight": torch.eye(3).flip(0).contiguous()}, tmp_path / "own.safetensors")
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.delenv("FOVEATE_DEBUG", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", "evaluate", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


ASKED = ["own.py:colour", "--weights", "own.safetensors", "--num-classes", "3", "--data", "photos"]


def test_evaluate_counts_what_is_right(colours, command):
    status, out, error = command(*ASKED)
    assert status == 0
    assert "note: the preprocessing that own.py:colour was trained with is not known" in error
    assert command(*ASKED, "--mean", "0,0,0", "--std", "1,1,1")[2] == "", "then it is known"
    assert "3 classes: 4 images of photos" in out
    assert "top-1 75.00 % (3 right)" in out
    assert "classes numbered in the order of their names" in out
    assert "top-5" not in out, "of three classes there is no top-5"
    status, out, _ = command(*ASKED, "--json", "--image-size", "8", "--crop-pct", "0.5", "--batch-size", "3")
    answer = json.loads(out)
    assert (answer["images"], answer["correct"], answer["top1"], answer["top5"]) == (4, 3, 75.0, None)
    assert answer["preprocessing"]["image_size"] == 8
    assert json.loads(command(*ASKED, "--json", "--bgr")[1])["correct"] == 2, "green, and the blue one under red"
    assert json.loads(command(*ASKED, "--json", "--images", "2")[1])["images"] == 2
    listed = json.loads(command(*ASKED, "--json", "--classes", "red,green,blue")[1])
    assert (listed["correct"], listed["classes"]) == (2, "by the network's own list of classes")
    shifted = ["--mean", "0,0,0", "--std", "1,1,0.001", "--amp", "--channels-last"]
    assert json.loads(command(*ASKED, "--json", *shifted)[1])["correct"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda at: ASKED[:1] + ASKED[3:], "wanted --weights FILE"),
        (lambda at: [*ASKED, "--weights", "gone.pth"], "weights gone.pth: wanted a safetensors file"),
        (lambda at: [*ASKED, "--data", "gone"], "gone: wanted 'embedded' or a folder, got neither"),
        (lambda at: [*ASKED, "--data", ""], "--data: wanted a folder; got an empty text"),
        (lambda at: [*ASKED, "--data", "own.py"], "own.py: wanted a folder (or 'embedded'), got a file"),
        (lambda at: [*ASKED, "--classes", "blue,green"], "classes of the network: wanted 3 different names; got 2"),
        (lambda at: [*ASKED, "--classes", "blue,green,rde"], "the network has no class 'red'; did you mean 'rde'?"),
        (lambda at: [*ASKED, "--num-classes", "4"], "fc.weight has 3 classes; wanted 4"),
        (lambda at: (at / "photos/white").mkdir() or ASKED, "photos/white: class 'white' has no images"),
        (
            lambda at: photo(at / "photos/white/1.png", (9, 9, 9)) or ASKED,
            "photos: wanted 3 class folders, one an output of the network; got 4 ('blue', 'green', 'red', …)",
        ),
        (lambda at: (at / "none").mkdir() or [*ASKED, "--data", "none"], "none: wanted class folders of images"),
        (
            lambda at: photo(at / "flat/1.png", (0, 0, 0)) or [*ASKED, "--data", "flat"],
            "got 1 images without classes (--labels FILE says them)",
        ),
        (
            lambda at: (at / "photos/red/bad.jpg").write_bytes(b"no") and ASKED,
            "bad.jpg: not an image, whatever its name says",
        ),
        (lambda at: (at / "photos/red/z.png").write_bytes(_half()) and ASKED, "z.png: corrupt or cut short: "),
        (lambda at: (at / "photos/red/z.png").touch() or ASKED, "z.png: empty file (0 bytes)"),
        (lambda at: _write(at / "photos/red/z.txt", "a") or ASKED, "z.txt: not an image file; wanted one of .jpg"),
        (lambda at: [*ASKED, "--crop-pct", "1.5"], "crop: wanted a share of the resized image"),
        (lambda at: [*ASKED, "--image-size", "0"], "image size: wanted at least 1 pixel; got 0"),
        (lambda at: [*ASKED, "--interpolation", "cubic"], "bicubic, lanczos, linear; got 'cubic'"),
        (lambda at: [*ASKED, "--mean", "0.5,half,0.5"], "--mean: wanted numbers parted by commas"),
        (lambda at: [*ASKED, "--mean", "0.5", "--std", "1"], "--mean, --std: wanted 3 numbers each, got 1"),
        (lambda at: [*ASKED, "--device", "tpu"], "--device: wanted one of this machine's (cpu"),
        (lambda at: [*ASKED, "--source", "a/b"], "--source and --cls go together"),
        (lambda at: [*ASKED, "--source", "a/b", "--cls", "C"], "no official source is called 'a/b'"),
        (lambda at: [*ASKED, "--option", "width"], "--option: wanted NAME=VALUE; got 'width'"),
        (lambda at: ["foveate:drsn_cw_1d_12", *ASKED[1:]], "takes signals of shape (1, 2048); images can be"),
        (lambda at: ["foveate:resnet21", *ASKED[1:]], "did you mean 'resnet"),
        (lambda at: ["foveate:resnet20", *ASKED[1:3], *ASKED[5:]], "'conv1.weight' is missing"),
        (lambda at: [*ASKED, "--labels", "gone.json"], "gone.json: cannot be read: No such file"),
        (lambda at: _write(at / "l.json", "[{]") or [*ASKED, "--labels", "l.json"], "l.json: is no JSON"),
        (lambda at: _write(at / "l.json", '{"red/1.png": 3}') or [*ASKED, "--labels", "l.json"], "from 0 to 2, got 3"),
        (
            lambda at: _write(at / "l.json", '{"red/7.png": 1}') or [*ASKED, "--labels", "l.json"],
            "there is no such file",
        ),
        (lambda at: _write(at / "l.json", '[{"file": "a"}]') or [*ASKED, "--labels", "l.json"], "row 0: wanted {"),
        (
            lambda at: _write(at / "l.txt", f"{'x' * 300}.png 1") or [*ASKED, "--labels", "l.txt"],
            "; File name too long",
        ),
        (
            lambda at: _write(at / "l.json", '{"red/1.png": null}') or [*ASKED, "--labels", "l.json"],
            "a class, got null",
        ),
        (lambda at: _write(at / "l.txt", "red/1.png") or [*ASKED, "--labels", "l.txt"], "line 1: wanted 'file class'"),
        (
            lambda at: _write(at / "photos/labels.json", "[]") or ASKED,
            "labels.json: wanted an image and its class a row",
        ),
    ],
)
def test_evaluate_tells_a_mistake_in_one_line(colours, command, change, message):
    status, out, error = command(*change(colours))
    assert status == 2, error
    assert message in error
    assert out == ""
    assert error.count("\n") == 1
    assert "Traceback" not in error


def _write(path, text):
    path.write_text(text)


def _half():
    kept = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(kept, "PNG")
    return kept.getvalue()[:2000]


def test_outputs_that_are_no_numbers_are_told(colours, command):
    save_file({"fc.weight": torch.full((3, 3), 3e38)}, colours / "huge.safetensors")
    status, _, error = command(*ASKED, "--weights", "huge.safetensors")
    assert status == 2
    assert "photos/blue/1.png: the network's outputs are not finite numbers" in error
    save_file({"fc.weight": torch.full((3, 3), torch.nan)}, colours / "nan.safetensors")
    status, _, error = command(*ASKED, "--weights", "nan.safetensors")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "nan.safetensors: fc.weight: 9 of its 9 values are no finite numbers" in error
    save_file({"net.fc.weight": torch.eye(3)}, colours / "below.safetensors")
    status, _, error = command(*ASKED, "--weights", "below.safetensors")
    assert status == 0
    assert "note: weights below.safetensors: taken are the tensors below 'net.'" in error


def test_the_number_of_classes_is_that_of_the_weights(tmp_path, command):
    network = foveate.create_network("resnet8", num_classes=3)
    save_file(dict(network.state_dict()), tmp_path / "three.safetensors")
    for name, colour in COLOURS.items():
        photo(tmp_path / "photos" / name / "1.png", colour)
    asked = ["resnet8", "--weights", tmp_path / "three.safetensors", "--data", tmp_path / "photos", "--json"]
    answer = json.loads(command(*asked)[1])
    assert answer["num_classes"] == 3
    assert answer["preprocessing"]["image_size"] == 32


def test_a_saved_network_is_evaluated_by_its_file_alone(tmp_path, command):
    network = foveate.create_network("mobilenet_v2", num_classes=2, width=0.25).eval()
    foveate.save(network, tmp_path / "kept.safetensors")
    for name in ("a", "b"):
        photo(tmp_path / "photos" / name / "1.png", (9, 99, 0))
    status, out, error = command(tmp_path / "kept.safetensors", "--data", tmp_path / "photos", "--json")
    assert status == 0, error
    assert json.loads(out)["correct"] == 1, "both photos are the same"
    assert "is not known" in error, "it may have been trained on anything"
    status, _, error = command(tmp_path / "kept.safetensors", "--data", tmp_path / "photos", "--option", "width=1")
    assert status == 2
    assert "is a network with its weights" in error


def test_a_converted_network_keeps_the_preprocessing_of_its_source(tmp_path, shared):
    weights = shared / "data/weights/mobilenet_v2_imagenet_int8.pth"
    source = "google-coral/test_data"
    model = foveate.official.load(source, "mobilenet_v2", {}, read_weights(weights))
    foveate.save(model, tmp_path / "kept.safetensors", about={"source": f"https://github.com/{source}"})
    trained = load_trained(str(tmp_path / "kept.safetensors"), None)
    assert (trained.name, trained.outputs, trained.source) == ("foveate:mobilenet_v2", 1000, source)
    assert published(trained.name, trained.source).mean == (0.5, 0.5, 0.5)


def numbers_of(images, outputs):
    return evaluation_set(images, outputs, Preprocessing()).test.labels.tolist()


def test_images_are_found_as_they_lie(tmp_path):
    for name in ("a", "b"):
        for place in ("train", "val"):
            photo(tmp_path / "split" / place / name / "deep" / f"{place}.JPEG", (1, 2, 3))
    found = find_images(tmp_path / "split")
    assert len(found.contents) == 2
    assert all("val" in name for name in found.names)
    photo(tmp_path / "net/val/n01443537/x.JPEG", (1, 2, 3))
    assert numbers_of(find_images(tmp_path / "net"), 1000) == [1]
    for i in range(3):
        photo(tmp_path / f"flat/{i}.png", (i, i, i))
    for name, text in (
        ("l.json", '[{"file": "2.png", "index": 4}, {"file": "0.png", "label": 1}]'),
        ("l2.json", '{"2.png": 4, "0.png": "1"}'),
        ("l.txt", "2.png 4\n0.png,1\n"),
    ):
        (tmp_path / name).write_text(text)
        assert numbers_of(find_images(tmp_path / "flat", labels=tmp_path / name), 5) == [4, 1]
    (tmp_path / "flat/labels.json").write_text('{"1.png": "tench"}')
    assert numbers_of(find_images(tmp_path / "flat"), 1000) == [0]


def test_a_study_and_evaluate_see_the_same_files_and_the_same_tensors(tmp_path, monkeypatch):
    """With a linked folder in val/a, a folder in it that is linked in a circle, and upper-case endings."""
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)

    def noise(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)

    for label in ("a", "b"):
        for number in range(3):
            noise(tmp_path / "set" / "train" / label / f"{number}.jpg", (40, 50))
            noise(tmp_path / "set" / "val" / label / f"{number}.JPG", (40 + 9 * number, 51))
    for number in range(4):
        noise(tmp_path / "elsewhere" / f"{number}.png", (33, 90))
    (tmp_path / "set" / "val" / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    study = open_data(DataSpec(source=str(tmp_path / "set"), size=32)).test
    ours = evaluation_set(find_images(tmp_path / "set"), 2, Preprocessing(image_size=32)).test
    assert len(study) == len(ours) == 10
    assert list(study.contents) == [ours.contents[item] for item in range(10)]
    one, other = (split.batch(range(10), None) for split in (study, ours))
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets["label"], other.targets["label"])


def test_cifars_own_files_and_parquet_are_read(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 3072), np.uint8)
    (tmp_path / "cifar").mkdir()
    with (tmp_path / "cifar/test_batch").open("wb") as file:
        pickle.dump({"data": x, "labels": [0, 9, 3, 3, 1]}, file)
    found = find_images(tmp_path / "cifar")
    assert (len(found.contents), found.side, numbers_of(found, 10)) == (5, 32, [0, 9, 3, 3, 1])
    assert np.array_equal(found.contents[0], x[0].reshape(3, 32, 32).transpose(1, 2, 0))
    with pytest.raises(ValueError, match="has 10 classes; the network has 100 outputs"):
        numbers_of(found, 100)
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    (tmp_path / "rows").mkdir()
    files = []
    for side in (20, 20, 30):
        kept = io.BytesIO()
        Image.new("RGB", (side, side), (side, 0, 0)).save(kept, "PNG")
        files.append({"bytes": kept.getvalue(), "path": ""})
    shard = tmp_path / "rows/validation-00000-of-00001.parquet"
    parquet.write_table(pyarrow.table({"image": files, "label": [2, 0, 1]}), shard, row_group_size=2)
    found = find_images(tmp_path / "rows")
    assert (len(found.contents), found.side, numbers_of(found, 3)) == (3, 20, [2, 0, 1])
    assert [found.contents[row] for row in (2, 0, 1)] == [files[row]["bytes"] for row in (2, 0, 1)]
    assert found.names[2] == f"{shard}, row 2"
    with pytest.raises(ValueError, match="row 0: wanted a class from 0 to 1, got 2"):
        numbers_of(found, 2)
    (tmp_path / "only").mkdir()
    shard.rename(tmp_path / "only/train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="wanted test-\\*.parquet"):
        find_images(tmp_path / "only")


def test_a_chosen_part_is_spread_over_the_set(tmp_path):
    for number in range(10):
        photo(tmp_path / "set" / "ab"[number // 5] / f"{number}.png", (number, 0, 0))
    part = evaluation_set(find_images(tmp_path / "set"), 2, Preprocessing(), most=4).test
    assert [int(part.name_of(item)[-5]) for item in range(4)] == [0, 3, 6, 9]
    assert part.labels.tolist() == [0, 0, 1, 1]


def accuracy(shared, network, weights, data, outputs, most=None, **given):
    trained = load_trained(network, shared / "data/weights" / weights, **given)
    assert trained.outputs == outputs
    found = find_images(shared / "data" / data)
    scores = score_classifier(
        trained.model, evaluation_set(found, outputs, preprocessing_of(trained, found), most=most)
    )
    return {name: int(right.sum()) for name, right in scores.items.items() if name != "loss"}


def test_released_networks_are_right_on_a_slice(shared):
    pytest.importorskip("pyarrow")
    found = accuracy(shared, "foveate:resnet20", "cifar10_resnet20-12fca82f.th", "cifar10", 10, most=200)
    assert found["accuracy"] >= 176
    found = accuracy(shared, "mobilenet_v2", "mobilenet_v2_imagenet_int8.pth", "imagenet_sample", 1000, most=20)
    assert found["accuracy"] >= 15
    assert found["top5"] >= 19


HAN = {"source": "songhan/SqueezeNet-Deep-Compression", "cls": "squeezenet1_0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "weights", "data", "outputs", "given", "right", "right5"),
    [
        ("foveate:resnet20", "cifar10_resnet20-12fca82f.th", "cifar10", 10, {}, 9173, None),
        ("foveate:resnet56", "cifar10_resnet56-4bfd9763.th", "cifar10", 10, {}, 9339, None),
        ("foveate:mobilenet_v2", "mobilenet_v2_imagenet_int8.pth", "imagenet_sample", 1000, {}, 177, 199),
        ("torchvision:squeezenet1_0", "squeezenet1_0_imagenet_fp16.pth", "imagenet_sample", 1000, HAN, 136, 171),
    ],
)
def test_released_networks_keep_their_published_accuracy(shared, network, weights, data, outputs, given, right, right5):
    pytest.importorskip("pyarrow")
    found = accuracy(shared, network, weights, data, outputs, **given)
    assert found["accuracy"] == right
    assert right5 is None or found["top5"] == right5

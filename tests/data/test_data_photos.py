"""Photos: any kind of file becomes an upright RGB image, and evaluation shows what torchvision would show."""

import json
import shutil
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import open_data
from foveate.data.augmentation import uniforms
from foveate.data.decode import decode
from foveate.data.photos import Photos, random_part
from foveate.data.transforms import MEAN, STD, Preprocessing
from foveate.spec import DataSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(shared):
    return sorted((shared / "data" / "imagenet_sample" / "images").iterdir())


def test_evaluation_is_torchvisions_resize_and_centre_crop(photos):
    from torchvision.transforms import v2

    shape = [v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()]
    transform = v2.Compose([*shape, v2.ConvertImageDtype(torch.float32), v2.Normalize(MEAN, STD)])
    split = Photos(photos[:16], np.zeros(16, np.int64), Preprocessing(), names=[photo.name for photo in photos[:16]])
    batch = split.batch(range(len(split)), None)
    for got, file in zip(batch.inputs, photos, strict=False):
        expected = transform(Image.open(file).convert("RGB"))
        levels = (got - expected).abs() * torch.tensor(STD)[:, None, None] * 255
        assert levels.max() < 0.01, file


def test_random_parts_are_inside_and_as_large_as_said():
    for size in ((500, 375), (375, 500), (1000, 40), (1, 1)):
        boxes = np.array([random_part(size, draws) for draws in uniforms((0, 0), np.arange(2000), 5)])
        assert boxes.min() >= 0
        assert (boxes[:, 2] <= size[0]).all()
        assert (boxes[:, 3] <= size[1]).all()
        if size[0] == 500:
            wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
            area = wide * high / (size[0] * size[1])
            assert area.min() > 0.2
            assert area.max() > 0.9
            assert 0.7 < (wide / high).min() < 0.8


def test_a_large_jpeg_decoded_small_looks_the_same(photos, tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    big = Image.open(photos[0]).convert("RGB").resize((3000, 2000), Image.Resampling.BICUBIC)
    big.save(tmp_path / "big.jpg", quality=95)
    content = (tmp_path / "big.jpg").read_bytes()
    small = decode(content, 512)
    assert 512 <= min(small.size) < 1100
    whole, quick = (np.asarray(image.resize((300, 200)), float) for image in (decode(content), small))
    assert np.abs(whole - quick).mean() < 1


@pytest.mark.parametrize("kind", ["L", "LA", "1", "I;16", "CMYK", "RGBA", "P", "clear P", "GIF", "BMP", "TIFF", "WEBP"])
def test_any_kind_of_photo_becomes_rgb(photos, tmp_path, kind):
    original = Image.open(photos[0]).convert("RGB")
    expected = original.convert("L").convert("RGB") if kind in ("L", "LA", "1", "I;16") else original
    ending = {"CMYK": "JPEG", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "WEBP": "webp"}.get(kind, "png")
    file = tmp_path / f"photo.{ending}"
    if kind == "I;16":
        Image.fromarray(np.asarray(original.convert("L")).astype(np.uint16) * 257).save(file)
    elif kind == "clear P":
        original.convert("P").save(file, transparency=bytes([255] * 256))
    else:
        (original if ending in ("gif", "bmp", "tiff", "webp") else original.convert(kind)).save(file)
    image = decode(file.read_bytes())
    assert image.mode == "RGB"
    exact = kind in ("L", "LA", "I;16", "RGBA", "BMP", "TIFF")
    if not exact:  # dithered or compressed: the means of 16×16 pixels agree
        image, expected = image.reduce(16), expected.reduce(16)
    assert np.abs(np.asarray(image, float) - np.asarray(expected, float)).max() <= (0 if exact else 30)
    assert np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean() <= (0 if exact else 4)


def test_transparent_becomes_white():
    content = BytesIO()
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(content, "PNG")
    assert np.asarray(decode(content.getvalue())).min() == 255


def test_exif_turns_the_photo_upright(photos, tmp_path):
    original = Image.open(photos[0]).convert("RGB").resize((60, 40))
    for orientation, turn in {3: 180, 6: 270, 8: 90}.items():
        note = Image.Exif()
        note[0x0112] = orientation
        original.save(tmp_path / "turned.jpg", exif=note, quality=100, subsampling=0)
        image = decode((tmp_path / "turned.jpg").read_bytes())
        expected = np.asarray(original.rotate(turn, expand=True), float)
        assert np.abs(np.asarray(image, float) - expected).mean() < 2


def test_greyscale_photos_of_the_sample_train(shared, tmp_path):
    sample = shared / "data" / "imagenet_sample"
    grey = [entry["file"] for entry in json.loads((sample / "labels.json").read_text()) if entry["mode"] != "RGB"]
    for index, name in enumerate((grey * 2)[:4]):
        place = tmp_path / "grey" / "ab"[index // 2]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample / name, place / f"{index}.JPEG")
    data = open_data(DataSpec(source=str(tmp_path / "grey"), size=32))
    x = data.train.batch(range(len(data.train)), (0, 0)).inputs
    assert x.shape == (2, 3, 32, 32)
    assert x.isfinite().all()

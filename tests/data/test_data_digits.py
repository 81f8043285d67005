"""Scattered digits: made the same everywhere, the digit is where it is said to be, train and test share nothing."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.data import inspect_data, make_embedded, open_data, scattered_digits
from foveate.data.digits import layer, originals, pool, scenes
from foveate.spec import DataSpec

# sha256 of 40 train images of 32×32 from seed 0, with all that belongs to them.
# A change is another data set and needs a new digits.VERSION.
GOLDEN = "eb3f00793665578c4fbddd2007ef3522e63d78bf350e40f3ba1317a629ae500d"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def digest(made):
    return hashlib.sha256(b"".join(np.ascontiguousarray(made[key]).tobytes() for key in sorted(made))).hexdigest()


def test_the_same_bytes_made_cached_and_in_another_process(tmp_path):
    made = scattered_digits(40)
    assert list((tmp_path / "cache").glob("*.npz")), "nothing was cached"
    assert digest(scattered_digits(40)) == digest(made)
    code = (
        "import sys; sys.path[:0] = ['.', 'tests/data']\n"
        "from test_data_digits import digest; from foveate.data import scattered_digits\n"
        "print(digest(scattered_digits(40)))"
    )
    there = {**os.environ, "FOVEATE_CACHE": str(tmp_path / "other"), "PYTHONHASHSEED": "5", "OMP_NUM_THREADS": "2"}
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], env=there, cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == digest(made)
    assert digest(made) == GOLDEN


def test_a_cache_that_cannot_be_written_or_is_damaged_changes_nothing(tmp_path, monkeypatch):
    made = scattered_digits(20)
    (kept,) = (tmp_path / "cache").glob("*.npz")
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    for content in (bytes(damaged), kept.read_bytes()[:1000], b""):
        kept.write_bytes(content)
        assert digest(scattered_digits(20)) == digest(made)
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file" / "cache"))
    assert digest(scattered_digits(20)) == digest(made)


def test_cache_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.delenv("FOVEATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    scattered_digits(10)
    assert [file.suffix for file in (tmp_path / "xdg" / "foveate").iterdir()] == [".npz"]


def test_train_and_test_share_no_original_not_even_in_clutter():
    ink, labels = originals()
    used = {}
    for split in ("train", "test"):
        shown = list(scenes(300, 0, 32, split))
        used[split] = {number for scene in shown for number in (scene.digit, *scene.pieces)}
        assert used[split] <= set(pool(split))
        for scene in shown:
            assert labels[scene.digit] == scene.label
            assert all(labels[piece] != scene.label for piece in scene.pieces), "clutter of the digit's own class"
    assert not used["train"] & used["test"]
    drawn = {split: {ink[number].tobytes() for number in pool(split)} for split in ("train", "test")}
    assert not drawn["train"] & drawn["test"], "two originals of the same ink"


def test_a_smaller_set_is_the_beginning_of_a_larger_one_and_classes_are_level():
    few, many = scattered_digits(30, seed=3, split="test"), scattered_digits(50, seed=3, split="test")
    assert all(np.array_equal(few[key], many[key][:30]) for key in few)
    assert np.bincount(many["labels"]).tolist() == [5] * 10
    assert not np.array_equal(few["images"], scattered_digits(30, seed=4, split="test")["images"])


@pytest.mark.parametrize("size", [16, 32, 48])
def test_box_and_mask_show_the_digit(size):
    made = scattered_digits(60, seed=1, image_size=size)
    ink = originals()[0]
    alike = []
    for image, mask, (x0, y0, x1, y1), number in zip(
        made["images"], made["masks"], made["boxes"], made["originals"], strict=True
    ):
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = 1
        assert 0 <= x0 < x1 <= size
        assert 0 <= y0 < y1 <= size
        assert not mask[inside == 0].any()
        edges = (mask[y0, x0:x1], mask[y1 - 1, x0:x1], mask[y0:y1, x0], mask[y0:y1, x1 - 1])
        assert all(edge.any() for edge in edges), "the box is not tight"
        rim = (inside == 1) & (mask == 0)
        if rim.sum() > 10:
            assert image[mask == 1].mean() > image[rim].mean() + 20, "no ink under the mask"
        digit = ink[number] > 4
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        digit = ink[number][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
        shown = Image.fromarray(mask[y0:y1, x0:x1] * 255).resize(digit.shape[::-1], Image.Resampling.BOX)
        if np.ptp(np.asarray(shown)):  # at 16 pixels a narrow 1 may fill its box
            alike.append(np.corrcoef(np.asarray(shown, float).ravel(), digit.ravel())[0, 1])
    assert len(alike) > 50
    assert np.median(alike) > (0.6 if size == 16 else 0.8)


def test_nothing_of_the_digit_is_outside_the_image():
    for scene in scenes(100, 0, 32, "train"):
        target = scene.target
        assert 0 <= target.top <= 32 - target.height
        assert 0 <= target.left <= 32 - target.width
        assert layer(target, 32).max() > 100


def test_opened_as_a_data_set():
    data = open_data(DataSpec(train_items=120, test_items=50, size=48))
    assert (len(data.train), len(data.test), data.inputs) == (120, 50, (1, 48, 48))
    assert data.targets["label"].names == tuple("0123456789")
    batch = data.train.batch(range(120), None)
    x = batch.inputs
    assert x.shape == (120, 1, 48, 48)
    assert abs(float(x.mean())) < 1e-3
    assert float(x.std()) == pytest.approx(1, abs=1e-2)
    assert batch.targets["label"].tolist() == scattered_digits(120)["labels"].tolist()
    assert data.train.name_of(7) == "7"
    assert "120 train and 50 test images of 48×48" in data.description
    assert data.fingerprint == open_data(DataSpec(train_items=120, test_items=50, size=48)).fingerprint
    assert data.fingerprint != open_data(DataSpec(train_items=130, test_items=50, size=48)).fingerprint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image_size": 8}, "at least 16"),
        ({"size": (32, 48)}, r"wanted a square size .* got \[32, 48\]"),
        ({"kind": "embedded", "source": "photos"}, "wanted source = 'embedded'; got 'photos'"),
        ({"train_images": 9}, "wanted train_items of at least 10, one a class; got 9"),
        ({"test_items": 5}, "test_items"),
    ],
)
def test_what_cannot_be_made_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        open_data(DataSpec(**options))


def test_wrong_split():
    with pytest.raises(ValueError, match="'train' or 'test', got 'val'"):
        scattered_digits(10, split="val")


def test_written_as_a_folder(tmp_path):
    out = tmp_path / "new" / "digits"
    make_embedded(out, 30, test_images=20, seed=2)
    made = scattered_digits(30, seed=2)
    for index, label in enumerate(made["labels"]):
        assert np.array_equal(
            np.asarray(Image.open(out / "train" / str(label) / f"{index:05d}.png")), made["images"][index]
        )
    assert len(list(out.rglob("*.png"))) == 50
    assert [entry.name for entry in out.parent.iterdir()] == ["digits"], "something was left behind"
    assert inspect_data(str(out)).problems == ()
    opened = open_data(DataSpec(source=str(out), size=32))
    assert (len(opened.train), len(opened.test), opened.targets["label"].names) == (30, 20, tuple("0123456789"))


def test_written_only_where_nothing_is_lost(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"full: wanted an empty or a new folder, got one that holds 'mine\.txt'"):
        make_embedded(tmp_path / "full", 10, test_images=10)
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="got a file"):
        make_embedded(tmp_path / "full" / "mine.txt", 10, test_images=10)
    with pytest.raises(ValueError, match="cannot be written"):
        make_embedded(tmp_path / "full" / "mine.txt" / "inside", 10, test_images=10)
    make_embedded(tmp_path / "empty", 10, test_images=10)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "empty", "full"]
